import HostIO
import Primitives
import SimulatedHost
import Testing

@Suite struct StepTests {
    @Test func `every call that changes something or makes it durable is a step, in order`() throws {
        let (host, directory, file) = try SimulatedHost.withFile()
        let notes = Notes()
        host.onStep { step in
            notes.add("\(step.kind.rawValue) \(step.path) \(step.offset)+\(step.count)")
            return .proceed
        }
        let before = host.steps
        try file.fill(2, at: 10, 5)
        try file.punch(offset: 4096, count: 4096)
        try file.truncate(to: 99)
        try file.reserve(offset: 0, count: 8192)
        try file.syncData()
        try file.sync()
        _ = try directory.open("g", .create)
        try directory.rename("g", to: "h")
        try directory.remove("h")
        try directory.createDirectory("i")
        try directory.removeDirectory("i")
        try directory.sync()
        _ = try file.size()
        _ = try directory.list()
        #expect(
            notes.all == [
                "write /d/f 10+5", "punch /d/f 4096+4096", "truncate /d/f 99+0", "reserve /d/f 0+8192",
                "syncData /d/f 0+0", "sync /d/f 0+0", "create /d/g 0+0", "rename /d/g 0+0", "remove /d/h 0+0",
                "createDirectory /d/i 0+0", "removeDirectory /d/i 0+0", "syncDirectory /d 0+0",
            ])
        #expect(host.steps == before + 12)
    }

    @Test func `a step fails once, or it and all that follow`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.onStep { $0.offset == 0 && $0.kind == .write ? .fail(5) : .proceed }
        #expect(throws: IOError(call: "pwrite", path: "/d/f", code: 5)) { try file.fill(2, at: 0, 512) }
        #expect(try file.bytes(at: 0, 512).allSatisfy { $0 == 1 })
        try file.fill(2, at: 512, 512)
        host.onStep { $0.kind == .punch ? .failFromNowOn(5) : .proceed }
        try file.fill(3, at: 0, 512)
        #expect(throws: IOError.self) { try file.punch(offset: 0, count: 4096) }
        #expect(throws: IOError.self) { try file.fill(4, at: 0, 512) }
        #expect(throws: IOError.self) { try file.sync() }
        host.recover()
        try file.fill(4, at: 0, 512)
    }

    @Test func `a short write leaves its first bytes and throws`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        host.onStep { _ in .shortWrite(700, 28) }
        #expect(throws: IOError(call: "pwrite", path: "/d/f", code: 28)) { try file.fill(2, at: 0, 4096) }
        let bytes = try file.bytes(at: 0, 4096)
        #expect(bytes[0..<700].allSatisfy { $0 == 2 } && bytes[700...].allSatisfy { $0 == 1 })
    }

    @Test func `a machine without power answers nothing, and what it held is there for a crash`() throws {
        let (host, directory, file) = try SimulatedHost.withFile()
        try file.fill(2, at: 0, 512)
        host.onStep { _ in .powerLoss }
        #expect(throws: IOError(call: "pwrite", path: "/d/f", code: SimulatedHost.machineOff)) {
            try file.fill(3, at: 0, 512)
        }
        #expect(host.isOff)
        #expect(throws: IOError.self) { _ = try file.bytes(at: 0, 1) }
        #expect(throws: IOError.self) { _ = try directory.list() }
        #expect(throws: IOError.self) { _ = try host.openDirectory("/d") }
        let after = host.crash(.everything)
        #expect(try after.bytes(of: "/d/f")[0] == 2)
        try after.openDirectory("/d").open("f", .readWrite).fill(3, at: 0, 512)
    }

    @Test func `a hook may call back into the same host`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        let notes = Notes()
        host.onStep { step in
            if step.offset == 0 {
                try? file.fill(9, at: 4096, 512)
                notes.add("inner done")
            }
            return .proceed
        }
        try file.fill(2, at: 0, 512)
        #expect(notes.all == ["inner done"])
        #expect(try file.bytes(at: 4096, 1) == [9])
        #expect(try file.bytes(at: 0, 1) == [2])
    }

    @Test func `a crash made inside a hook sees the moment before the step`() throws {
        let (host, _, file) = try SimulatedHost.withFile()
        let notes = Notes()
        host.onStep { [weak host] _ in
            let first = (try? host?.crash(.everything).bytes(of: "/d/f"))?.first
            notes.add("\(first ?? 0)")
            return .proceed
        }
        try file.fill(2, at: 0, 512)
        try file.fill(3, at: 0, 512)
        #expect(notes.all == ["1", "2"])
    }

    @Test func `the same seed gives the same numbers and times, another seed others`() {
        let first = SimulatedHost(seed: 5)
        let second = SimulatedHost(seed: 5)
        #expect((0..<10).map { _ in first.random64() } == (0..<10).map { _ in second.random64() })
        #expect(SimulatedHost(seed: 6).random64() != SimulatedHost(seed: 5).random64())
        let start = first.monotonicNs()
        #expect(start == second.monotonicNs())
        first.advance(ns: 5_000_000_000)
        #expect(first.monotonicNs() >= start + 5_000_000_000)
        #expect(first.wallClock().seconds == second.wallClock().seconds + 5)
        #expect(!first.startThread(name: "none") {})
    }
}
