import HostIO
import Primitives
import SimulatedHost
import Testing

@Suite struct FaultTests {
    @Test func `a failed sync is forgotten by the next: memory shows the bytes, the device has lost them`() throws {
        var options = SimulatedHost.Options()
        options.failedSyncKeepsPercent = 0
        let (host, _, file) = try SimulatedHost.withFile(count: 16384, options)
        try file.fill(2, at: 0, 4096)
        host.onStep { $0.kind == .syncData ? .fail(5) : .proceed }
        #expect(throws: IOError(call: "fdatasync", path: "/d/f", code: 5)) { try file.syncData() }
        host.onStep(nil)
        try file.syncData()
        #expect(try file.bytes(at: 0, 1) == [2])
        #expect(try file.uncached().bytes(at: 0, 4096).allSatisfy { $0 == 1 })
        #expect(try host.crash(.everything).bytes(of: "/d/f")[0] == 1)
        #expect(try host.killed().bytes(of: "/d/f")[0] == 2)
        #expect(try host.killedWithoutCache().bytes(of: "/d/f")[0] == 1)
        // What is written after it is durable as ever.
        try file.fill(3, at: 4096, 4096)
        try file.syncData()
        #expect(try host.crash(.nothing).bytes(of: "/d/f")[4096] == 3)
        #expect(try host.crash(.nothing).bytes(of: "/d/f")[0] == 1)
    }

    @Test func `a failed sync may have written some sectors`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 16384)
        host.onStep { $0.kind == .sync ? .fail(5) : .proceed }
        #expect(throws: IOError.self) { try file.sync() }
        let kept = sectors(try file.uncached().bytes(at: 0, 16384))
        #expect(kept.contains(1) && kept.contains(2) && !kept.contains(nil))
    }

    @Test func `rot shows in memory, on the device and after a crash`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try host.rot("/d/f", at: 5000, .flip(0x80))
        #expect(try file.bytes(at: 5000, 1) == [0x81])
        #expect(try file.uncached().bytes(at: 4096, 4096)[904] == 0x81)
        #expect(try host.crash(.nothing).bytes(of: "/d/f")[5000] == 0x81)
        try host.rot("/d/f", at: 4000, .zero(200))
        #expect(try file.bytes(at: 3999, 202) == [1] + [UInt8](repeating: 0, count: 200) + [1])
        try host.rot("/d/f", at: 16383, .replace([7, 7, 7]))
        #expect(try host.bytes(of: "/d/f").count == 16384)
        #expect(try file.bytes(at: 16383, 1) == [7])
        #expect(throws: IOError.self) { try host.rot("/d/none", at: 0, .zero(1)) }
    }

    @Test func `a lost write is acknowledged and synced, and gone once memory forgets it`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.onStep { $0.kind == .write ? .lostWrite : .proceed }
        try file.fill(2, at: 0, 4096)
        try file.sync()
        #expect(try file.bytes(at: 0, 1) == [2])
        #expect(try file.uncached().bytes(at: 0, 512)[0] == 1)
        #expect(try host.crash(.everything).bytes(of: "/d/f")[0] == 1)
        #expect(try host.crash(.nothing).bytes(of: "/d/f")[0] == 1)
    }

    @Test func `a misdirected write overwrites another place and leaves its own`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.onStep { $0.kind == .write ? .misdirectedWrite(8192) : .proceed }
        try file.fill(2, at: 0, 512)
        try file.sync()
        #expect(try file.bytes(at: 0, 1) == [2])
        let after = try host.crash(.nothing).bytes(of: "/d/f")
        #expect(after[0] == 1 && after[8192] == 2 && after[8704] == 1)
    }

    @Test func `reads of a bad range fail until it is mended`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.failReads("/d/f", at: 4096, count: 512)
        #expect(throws: IOError(call: "pread", path: "/d/f", code: 5)) { _ = try file.bytes(at: 0, 4097) }
        #expect(try file.bytes(at: 0, 4096).count == 4096)
        #expect(try file.bytes(at: 4608, 10).count == 10)
        host.clearBadRanges()
        #expect(try file.bytes(at: 0, 16384).count == 16384)
        host.failReads("/d/f", onlyUncached: true)
        #expect(try file.bytes(at: 0, 1) == [1])
        #expect(throws: IOError.self) { _ = try file.uncached().bytes(at: 0, 512) }
    }

    @Test func `a full file system refuses new pages and takes rewrites`() throws {
        let (host, directory) = try SimulatedHost.withDirectory(.init(capacity: 40960))
        let file = try directory.open("f", .create)
        try file.fill(1, at: 0, 16384)
        #expect(try directory.space() == Space(available: 24576, total: 40960))
        try file.reserve(offset: 16384, count: 8192)
        #expect(try directory.space().available == 16384)
        host.consume(bytes: 8192)
        #expect(try directory.space().available == 8192)
        #expect(throws: IOError(call: "fallocate", path: "/d/f", code: 28)) {
            try file.reserve(offset: 1 << 20, count: 12288)
        }
        #expect(throws: IOError(call: "pwrite", path: "/d/f", code: 28)) { try file.fill(2, at: 1 << 20, 12288) }
        #expect(try file.size() == 1 << 20 + 8192, "as much as there was room for is written")
        try file.fill(3, at: 0, 16384)
        try file.fill(3, at: 16384, 8192)
        try file.punch(offset: 0, count: 4096)
        try file.fill(4, at: 1 << 30, 4096)
        #expect(try directory.space().available == 0)
        let other = try directory.open("g", .create)
        #expect(throws: IOError.self) { try other.fill(1, at: 0, 1) }
        try directory.remove("f")
        #expect(throws: IOError.self, "the open file still holds its pages") { try other.fill(1, at: 0, 1) }
    }

    @Test func `a removed file gives its room back when it is closed`() throws {
        let (_, directory) = try SimulatedHost.withDirectory(.init(capacity: 40960))
        do {
            let file = try directory.open("f", .create)
            try file.fill(1, at: 0, 40960)
            try directory.remove("f")
            #expect(try directory.space().available == 0)
        }
        #expect(try directory.space().available == 40960)
    }

    @Test func `a disk that fills up stays full until something is given back`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.onStep { $0.offset == 1 << 20 ? .failFromNowOn(28) : .proceed }
        #expect(throws: IOError.self) { try file.fill(1, at: 1 << 20, 4096) }
        host.onStep(nil)
        #expect(throws: IOError.self) { try file.fill(1, at: 1 << 21, 4096) }
        try file.fill(2, at: 0, 4096)
        try file.sync()
        try file.punch(offset: 4096, count: 4096)
        try file.fill(1, at: 1 << 21, 4096)
    }

    @Test func `an uncached read is held to the device's alignment`() throws {
        var options = SimulatedHost.Options()
        options.directAlignment = 4096
        let (_, _, file) = try SimulatedHost.withFile(count: 16384, options)
        #expect(throws: IOError(call: "pread", path: "/d/f", code: 22)) {
            _ = try file.uncached().bytes(at: 512, 4096)
        }
        #expect(try file.uncached().bytes(at: 4096, 4096).count == 4096)
    }
}
