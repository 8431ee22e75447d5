import HostIO
import Primitives
import SimulatedHost
import Testing

@Suite struct CrashTests {
    @Test func `what was synced survives every policy, and what was not is at the policy's mercy`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 4096, 4096)
        try file.syncData()
        try file.fill(3, at: 8192, 4096)
        #expect(try host.crash(.nothing).bytes(of: "/d/f")[8192..<12288].allSatisfy { $0 == 1 })
        #expect(try host.crash(.everything).bytes(of: "/d/f")[8192..<12288].allSatisfy { $0 == 3 })
        for seed in UInt64(0)..<50 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            #expect(bytes[0..<4096].allSatisfy { $0 == 1 })
            #expect(bytes[4096..<8192].allSatisfy { $0 == 2 })
            #expect(bytes[12288...].allSatisfy { $0 == 1 })
        }
    }

    @Test func `a random subset keeps whole sectors, some and not all, and differs by seed`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 16384)
        var seen: Set<[UInt8?]> = []
        for seed in UInt64(0)..<20 {
            let kept = sectors(try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f"))
            #expect(!kept.contains(nil), "seed \(seed) cut a sector in two")
            #expect(kept.contains(1) && kept.contains(2), "seed \(seed)")
            #expect(kept == sectors(try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")))
            seen.insert(kept)
        }
        #expect(seen.count == 20)
    }

    @Test func `one unit alone, and all but one, are each reached by counting seeds`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 512, 512 * 5)
        #expect(host.pendingUnits == 5)
        for seed in 0..<5 {
            let one = sectors(try host.crash(.oneUnit, seed: UInt64(seed)).bytes(of: "/d/f"))
            #expect(one.enumerated().allSatisfy { $1 == ($0 == seed + 1 ? 2 : 1) })
            let rest = sectors(try host.crash(.allButOneUnit, seed: UInt64(seed)).bytes(of: "/d/f"))
            #expect(rest[0..<8].enumerated().allSatisfy { $1 == ((1...5).contains($0) && $0 != seed + 1 ? 2 : 1) })
        }
    }

    @Test func `a prefix keeps the first operations over all files`() throws {
        let (host, directory, file) = try SimulatedHost.withFile()
        let other = try directory.open("g", .create)
        try other.sync()
        try directory.sync()
        try file.fill(2, at: 0, 512)
        try other.fill(3, at: 0, 512)
        try file.fill(4, at: 0, 512)
        let states = try (UInt64(0)..<4).map { seed in
            let after = host.crash(.prefix, seed: seed)
            return [try after.bytes(of: "/d/f")[0], try after.bytes(of: "/d/g").first ?? 0]
        }
        #expect(states == [[1, 0], [2, 0], [2, 3], [4, 3]])
    }

    @Test func `a torn write keeps its first sectors and all that came before`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 4096)
        try file.fill(3, at: 8192, 4096)
        for count in 0..<8 {
            // Two writes are pending: even seeds tear the newest.
            let kept = sectors(try host.crash(.torn, seed: UInt64(count * 2)).bytes(of: "/d/f"))
            #expect(kept[0..<8].allSatisfy { $0 == 2 })
            #expect(kept[16..<24].enumerated().allSatisfy { $1 == ($0 < count ? 3 : 1) })
        }
    }

    @Test func `a sector that was written twice survives as one of its versions, never as a mix of them`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 256)
        try file.fill(3, at: 256, 256)
        var seen: Set<[UInt8]> = []
        for seed in UInt64(0)..<40 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            seen.insert([bytes[0], bytes[256]])
        }
        // The second half cannot be new while the first is old: one buffer held both when it was written.
        #expect(seen == [[1, 1], [2, 1], [2, 3]])
    }

    @Test func `files survive by themselves, a journal without its data and the other way round`() throws {
        let (host, directory, file) = try SimulatedHost.withFile()
        let other = try directory.open("g", .create)
        try other.fill(1, at: 0, 4096)
        try other.sync()
        try directory.sync()
        try file.fill(2, at: 0, 4096)
        try other.fill(2, at: 0, 4096)
        _ = try directory.open("unsynced", .create)
        var seen: Set<[UInt8?]> = []
        for seed in UInt64(0)..<40 {
            let after = host.crash(.files, seed: seed)
            let kept = Set(sectors(try after.bytes(of: "/d/f"))[0..<8] + [])
            let others = Set(sectors(try after.bytes(of: "/d/g")))
            #expect(kept.count == 1 && others.count == 1)
            seen.insert([kept.first ?? nil, others.first ?? nil])
        }
        #expect(seen.count == 4)
    }

    @Test func `a longer file survives with its old size, or with zeros where sectors are missing`() throws {
        let (host, _, file) = try SimulatedHost.withFile(count: 4096)
        try file.fill(2, at: 4096, 4096)
        var sizes: Set<Int> = []
        for seed in UInt64(0)..<30 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            sizes.insert(bytes.count)
            if bytes.count > 4096 { #expect(sectors(bytes)[8...].allSatisfy { $0 == 2 || $0 == 0 }) }
        }
        #expect(sizes == [4096, 8192])
    }

    @Test func `a truncate survives or not, and what it cut off never comes back behind a later size`() throws {
        let (host, _, file) = try SimulatedHost.withFile(count: 8192)
        try file.truncate(to: 100)
        try file.truncate(to: 8192)
        for seed in UInt64(0)..<30 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            switch bytes.count {
            case 100: #expect(bytes.allSatisfy { $0 == 1 })
            case 8192:
                let isUncut = bytes.allSatisfy { $0 == 1 }
                let isCut = bytes[0..<100].allSatisfy { $0 == 1 } && bytes[100...].allSatisfy { $0 == 0 }
                #expect(isUncut || isCut, "seed \(seed)")
            default: Issue.record("seed \(seed): \(bytes.count) bytes")
            }
        }
    }

    @Test func `a punch survives page by page`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.punch(offset: 0, count: 12288)
        var seen: Set<[UInt8]> = []
        for seed in UInt64(0)..<80 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            seen.insert([bytes[0], bytes[4096], bytes[8192]])
            #expect(bytes[12288] == 1)
        }
        #expect(seen.count == 8)
    }

    @Test func `a machine that crashed goes on, and crashes again`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 4096)
        let second = host.crash(.everything)
        let again = try second.openDirectory("/d").open("f", .readWrite)
        try again.fill(3, at: 4096, 4096)
        let third = second.crash(.nothing)
        #expect(try third.bytes(of: "/d/f")[0] == 2)
        #expect(try third.bytes(of: "/d/f")[4096] == 1)
        #expect(try host.bytes(of: "/d/f")[4096] == 1, "the first machine is not touched by the later ones")
    }

    @Test func `a killed process loses its locks and nothing else`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        try file.lock()
        try file.fill(2, at: 0, 4096)
        #expect(throws: IOError.self) { try host.openDirectory("/d").open("f", .readWrite).lock() }
        let next = host.killed()
        try next.openDirectory("/d").open("f", .readWrite).lock()
        #expect(try next.bytes(of: "/d/f")[0] == 2)
        #expect(try next.crash(.nothing).bytes(of: "/d/f")[0] == 1, "it is not durable for having survived a kill")
    }
}
