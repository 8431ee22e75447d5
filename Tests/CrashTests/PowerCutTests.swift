import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// A power cut at any step leaves an exact prefix of the history, and everything that was flushed.
///
/// Each test runs a workload on a simulated host. Before each call that changes the disk, several machines are made
/// that a power cut at this moment could leave, and the volume is opened and checked on each of them.
@Suite struct PowerCutTests {
    private static let blocks: UInt64 = 256

    @discardableResult
    private func run(_ seed: UInt64, _ mix: Mix, operations: Int, percent: Int = 100) throws -> EngineCounters {
        let client = try Client(try Client.madeHost(blocks: Self.blocks, seed: seed))
        let crasher = Crasher(seed: seed, percent: percent)
        crasher.watch(client)
        var workload = Workload(seed: seed, mix: mix)
        for _ in 0..<operations {
            let operation = workload.next(client.oracle)
            do {
                try client.perform(operation)
            } catch {
                Issue.record("seed \(seed), operation \(client.log.count) \(operation): \(error)")
                break
            }
            if !crasher.faults.isEmpty { break }
        }
        for fault in crasher.faults { Issue.record("\(fault)") }
        #expect(crasher.states > 0)
        return client.engine.status().counters
    }

    @Test(arguments: Scale.seeds(1000, 4))
    func `writes, discards and flushes survive a power cut at any step`(seed: UInt64) throws {
        try run(seed, .data, operations: 60)
    }

    @Test(arguments: Scale.seeds(2000, 4))
    func `snapshots, deletes, reverts and resizes survive a power cut at any step`(seed: UInt64) throws {
        try run(seed, .chain, operations: 30)
    }

    @Test(arguments: Scale.seeds(3000, 2))
    func `everything together survives a power cut at any step`(seed: UInt64) throws {
        try run(seed, .everything, operations: 60)
    }

    @Test(arguments: Scale.seeds(3500, 2))
    func `a journal that goes round survives a power cut at any step`(seed: UInt64) throws {
        let counters = try run(seed, .ring, operations: 150, percent: 20)
        #expect(counters.journalBytes > 2 * Client.journalSize)
    }

    @Test(arguments: Scale.seeds(4000, 4))
    func `a volume that recovered goes on, and survives the next power cut`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        var client = try Client(try Client.madeHost(blocks: Self.blocks, seed: seed))
        var workload = Workload(seed: seed, mix: .everything)
        for life in 0..<6 {
            let crasher = Crasher(seed: seed + UInt64(life), percent: 10, policiesPerStep: 2)
            crasher.watch(client)
            for _ in 0..<(5 + random.below(25)) {
                let operation = workload.next(client.oracle)
                do {
                    try client.perform(operation)
                } catch {
                    Issue.record("seed \(seed), life \(life), \(operation): \(error)")
                    return
                }
            }
            for fault in crasher.faults { Issue.record("life \(life): \(fault)") }
            let (policy, policySeed, _) = Crasher.plans(&random, 4)[random.below(4)]
            do {
                client = try Recovery.check(client.host.crash(policy, seed: policySeed), client.oracle, .all)
            } catch {
                Issue.record("seed \(seed), life \(life) ends by \(policy) \(policySeed): \(error)")
                return
            }
        }
    }

    @Test(arguments: Scale.seeds(4500, 8))
    func `a volume lives through one power cut after the other`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        var client = try Client(try Client.madeHost(blocks: 512, seed: seed))
        var workload = Workload(seed: seed, mix: .shortLife)
        var story: [String] = []
        for life in 0..<40 {
            let (policy, policySeed, _) = Crasher.plans(&random, 4)[random.below(4)]
            // The power goes at a step of the last operation, or after it.
            let last = Guarded<SimulatedHost?>(nil)
            do {
                for _ in 0..<(1 + random.below(5)) {
                    let operation = workload.next(client.oracle)
                    story.append("\(operation)")
                    try client.perform(operation)
                }
                let oracle: Oracle
                if random.chance(50) {
                    let countdown = Guarded(random.below(6))
                    let oracles = Guarded<Oracle?>(nil)
                    client.host.onStep { [weak client] _ in
                        guard let client, last.withLock({ $0 == nil }) else { return .proceed }
                        let isNow = countdown.withLock { left in
                            left -= 1
                            return left < 0
                        }
                        if isNow {
                            last.withLock { $0 = client.host.crash(policy, seed: policySeed) }
                            oracles.withLock { $0 = client.oracle }
                        }
                        return .proceed
                    }
                    let operation = workload.next(client.oracle)
                    story.append("\(operation)")
                    try client.perform(operation)
                    oracle = oracles.withLock { $0 } ?? client.oracle
                } else {
                    oracle = client.oracle
                }
                let next = last.withLock { $0 } ?? client.host.crash(policy, seed: policySeed)
                story.append("CUT")
                client = try Recovery.check(next, oracle, random.chance(10) ? .all : [])
            } catch {
                Issue.record("seed \(seed), life \(life) [\(story.suffix(12).joined(separator: "; "))]: \(error)")
                return
            }
        }
    }
}
