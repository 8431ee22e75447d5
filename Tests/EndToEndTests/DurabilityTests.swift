import CEndToEnd
import Foundation
import Testing

extension EndToEnd {
    /// What promises to be durable when it returns is on the device by then: strace of the daemon shows a flush that
    /// ended before the reply. And what was acknowledged at all survives a kill.
    @Suite(.needsMount) struct Durability {
        enum Call: String, CaseIterable, Sendable {
            case openDSync = "O_DSYNC"
            case openSync = "O_SYNC"
            case writeDSync = "RWF_DSYNC"
            case fsync
            case fdatasync
        }
        static let cases = ["writethrough", "none", "writeback"].flatMap { cache in Call.allCases.map { (cache, $0) } }

        /// Writes once and makes it durable by the call; every result must be that of success.
        private func perform(_ call: Call, _ file: UserFile, _ bytes: [UInt8], at offset: Int) throws {
            let wrote = file.write(bytes, at: offset, flags: call == .writeDSync ? ce_rwf_dsync : 0)
            try #require(wrote == bytes.count, "write: \(wrote)")
            switch call {
            case .fsync: try #require(file.sync() == 0)
            case .fdatasync: try #require(file.syncData() == 0)
            case .openDSync, .openSync, .writeDSync: break
            }
        }

        /// One line of the trace that matters here.
        private enum Event: Equatable { case write, flushed, reply }

        /// Reads the trace: writes into the replica's files, flushes of them that ended, replies to the kernel.
        private func events(_ trace: String, replica: String) -> [Event] {
            var pending: [Substring: Bool] = [:]
            var events: [Event] = []
            for line in trace.split(separator: "\n") {
                let thread = line.prefix { $0 != " " }
                let call = line.drop { $0 != " " }.drop { $0 == " " }
                if call.hasPrefix("fdatasync(") || call.hasPrefix("fsync(") {
                    if call.contains("<unfinished") {
                        pending[thread] = call.contains(replica)
                    } else if call.contains(replica), call.hasSuffix("= 0") {
                        events.append(.flushed)
                    }
                } else if call.hasPrefix("<... fdatasync resumed") || call.hasPrefix("<... fsync resumed") {
                    if pending.removeValue(forKey: thread) == true, call.hasSuffix("= 0") { events.append(.flushed) }
                } else if call.contains("</dev/fuse>") {
                    events.append(.reply)
                } else if call.contains(replica) {
                    events.append(.write)
                }
            }
            return events
        }

        /// For each of the rounds: whether, after its write reached the replica, a flush ended before the last reply.
        private func flushedRounds(_ events: [Event]) -> (rounds: Int, flushed: Int) {
            var rounds = 0, flushed = 0
            for part in events.split(separator: .write, omittingEmptySubsequences: false).dropFirst() {
                guard let reply = part.lastIndex(of: .reply) else { continue }
                rounds += 1
                if part[..<reply].contains(.flushed) { flushed += 1 }
            }
            return (rounds, flushed)
        }

        /// strace of the daemon while `body` runs.
        private func traced(_ volume: Volume, _ scratch: Scratch, _ body: () throws -> Void) throws -> [Event] {
            let path = scratch.newPath("trace")
            let daemon = try volume.daemon()
            // The replies need their descriptor's name, not their bytes.
            let pipe = try EventPipe(in: scratch)
            let strace = try Running(
                [
                    "strace", "-f", "-y", "-s", "0", "-e",
                    "trace=fsync,fdatasync,write,writev,pwrite64,pwritev,pwritev2,splice",
                    "-e", "signal=none", "-o", path, "-p", String(daemon),
                ], in: scratch, errorsTo: pipe.writer)
            // It writes to the pipe once more when it ends.
            defer { withExtendedLifetime(pipe) { _ = strace.stop() } }
            // It says so once it holds every thread; nothing of what follows is missed.
            try pipe.wait(for: "attached")
            try body()
            strace.signal(SIGINT)
            _ = strace.wait(seconds: 30)
            let trace = try String(contentsOfFile: path, encoding: .utf8)
            return events(trace, replica: try volume.replica())
        }

        @Test(arguments: cases)
        func `a durable call returns after the flush`(cache: String, call: Call) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                try volume.mounted(["--cache", cache]) {
                    let extra = call == .openDSync ? O_DSYNC : call == .openSync ? O_SYNC : 0
                    let file = try UserFile(volume.file, O_RDWR | extra)
                    var random = Random(seed: 1)
                    let rounds = 20
                    let found = try traced(volume, scratch) {
                        for round in 0..<rounds { try perform(call, file, random.bytes(4096), at: round * 8192) }
                    }
                    let result = flushedRounds(found)
                    #expect(result.rounds >= rounds, "\(result), \(found)")
                    #expect(result.flushed == result.rounds, "\(result), \(found)")
                }
            }
        }

        @Test func `an ordinary write returns without a flush, so the trace can tell the difference`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    var random = Random(seed: 2)
                    let found = try traced(volume, scratch) {
                        for round in 0..<20 { _ = file.write(random.bytes(4096), at: round * 8192) }
                    }
                    let result = flushedRounds(found)
                    #expect(result.rounds >= 20)
                    // The background may flush once a second; it does not flush for each.
                    #expect(result.flushed < result.rounds / 2, "\(result)")
                }
            }
        }

        @Test(arguments: ["writethrough", "none"], [1, 200, 2000])
        func `every acknowledged write survives a kill, and none is torn`(cache: String, count: Int) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "32M")
                try volume.mount(["--cache", cache])
                let log = try scratch.writeSlots(volume.file, count: count, killing: volume.daemon())
                try volume.killDaemon()
                try volume.mounted(["--cache", cache]) {
                    try scratch.expectSlots(volume.file, log: log, pages: cache != "none")
                }
                // And once more after the orderly end, from what the drained journal left.
                try volume.mounted { try scratch.expectSlots(volume.file, log: log, pages: cache != "none") }
            }
        }

        @Test func `kills again and again, over snapshots, lose nothing acknowledged`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "32M")
                for round in 0..<(8 * Machine.scale) {
                    try volume.mount(["--cache", round % 2 == 0 ? "writethrough" : "none"])
                    let log = try scratch.writeSlots(volume.file, count: 300 + round * 40, killing: volume.daemon())
                    try volume.killDaemon()
                    try volume.mounted {
                        try scratch.expectSlots(volume.file, log: log, pages: round % 2 == 0, "round \(round)")
                        try volume.snapshot("round-\(round)")
                        // Zeros again, since each log tells of a volume that began empty.
                        let file = try UserFile(volume.file)
                        try #require(file.punch(0, 32 << 20) == 0)
                    }
                }
                let result = try volume.attempt(["verify", volume.path])
                #expect(result.code == 0, "\(result)")
            }
        }

        @Test func `the check of the log finds a write that is missing`() throws {
            try Scratch.use { scratch in
                try scratch.must("truncate", "-s", "32M", scratch("plain"))
                let log = try scratch.writeSlots(scratch("plain"), count: 400)
                #expect(try scratch.checkSlots(scratch("plain"), log: log, pages: true) == nil)
                try flipBit(scratch("plain"), at: 12_345_678)
                #expect(try scratch.checkSlots(scratch("plain"), log: log, pages: true) != nil)
            }
        }
    }
}
