import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// Others fill the file system: requests that need room are refused without effect, what was acknowledged is flushed
/// and read as ever, and when there is room again the work goes on.
@Suite struct FullDiskTests {
    private func play(_ client: Client, _ workload: inout Workload, _ count: Int, mayRefuse: Bool) throws -> Int {
        var refused = 0
        for _ in 0..<count {
            let operation = workload.next(client.oracle)
            do {
                try client.perform(operation)
            } catch StoreError.noSpace(let cause) {
                if case .flush = operation { throw Violation("a flush was refused for lack of room") }
                if !mayRefuse {
                    throw Violation("\(operation) was refused with room to spare: \(cause.debugDescription)")
                }
                try client.expectRefused(operation)
                refused += 1
            }
        }
        return refused
    }

    @Test(arguments: Scale.seeds(5500, 6))
    func `a full file system refuses what needs room, loses nothing, and goes on when it has room`(
        seed: UInt64
    ) throws {
        var random = Generator(seed: seed)
        let client = try Client(try Client.madeHost(blocks: 1024, seed: seed))
        let mix = Mix(flush: 10, empty: 8, snapshots: 10, resize: 0, reopen: 0, pass: 4, look: 5, largeWrites: 40)
        var workload = Workload(seed: seed, mix: mix)
        do {
            _ = try play(client, &workload, 10 + random.below(30), mayRefuse: false)
            var refused = 0
            for _ in 0..<3 {
                client.host.leaveFree(bytes: UInt64(random.below(3)) * 100_000)
                refused += try play(client, &workload, 40, mayRefuse: true)
                try client.perform(.flush)
                try client.perform(.look)
                // The power may go in the middle of it.
                let cut = client.host.crash(.units(percent: 50), seed: random.next())
                _ = try Recovery.check(cut, client.oracle, [], states: ["healthy", "full"])
                client.host.consume(bytes: 0)
                let freed = client.host.crash(.nothing, seed: random.next())
                _ = try Recovery.check(freed, client.oracle, .all)
                _ = try play(client, &workload, 15, mayRefuse: false)
            }
            #expect(refused > 0, "nothing was refused, so nothing was tried")
            try client.perform(.reopen)
            try client.perform(.look)
            try Recovery.verify(client.engine)
        } catch {
            let last = client.log.suffix(6).joined(separator: "; ")
            Issue.record("seed \(seed), operation \(client.log.count) [\(last)]: \(error)")
        }
    }
}
