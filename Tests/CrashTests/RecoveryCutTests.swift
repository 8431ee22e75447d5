import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// The power goes again while the volume is being opened after a power cut: the next opening still finds an exact
/// prefix with everything that was flushed.
@Suite struct RecoveryCutTests {
    /// Machines that a power cut left, with what the volume on them may be.
    private final class Collection: Sendable {
        let found = Guarded<[(host: SimulatedHost, oracle: Oracle, note: String)]>([])
    }

    /// Crash states of a workload, each at a step and by a policy of its own.
    private static func cuts(_ seed: UInt64, _ mix: Mix, operations: Int, percent: Int) throws -> Collection {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        let collection = Collection()
        let random = Guarded(Generator(seed: seed))
        client.host.onStep { [weak client] step in
            guard let client, random.withLock({ $0.chance(percent) }) else { return .proceed }
            let (policy, policySeed, _) = random.withLock { random in
                let plans = Crasher.plans(&random, 4)
                return plans[random.below(plans.count)]
            }
            let next = client.host.crash(policy, seed: policySeed)
            collection.found.withLock {
                $0.append((next, client.oracle, "seed \(seed), \(step), \(policy) \(policySeed)"))
            }
            return .proceed
        }
        var workload = Workload(seed: seed, mix: mix)
        for _ in 0..<operations { try client.perform(workload.next(client.oracle)) }
        return collection
    }

    @Test(arguments: Scale.seeds(9000, 2))
    func `a power cut inside a recovery loses nothing more`(seed: UInt64) throws {
        let mix: Mix = seed % 2 == 0 ? .data : .chain
        let collection = try Self.cuts(seed, mix, operations: seed % 2 == 0 ? 40 : 25, percent: 8)
        let faults = Guarded<[String]>([])
        let states = Guarded(0)
        let random = Guarded(Generator(seed: seed ^ 0x5EC0))
        for (host, oracle, note) in collection.found.withLock({ $0 }) {
            host.onStep { [weak host] step in
                guard let host else { return .proceed }
                for (policy, policySeed, depth) in random.withLock({ Crasher.plans(&$0, 2) }) {
                    states.withLock { $0 += 1 }
                    do {
                        _ = try Recovery.check(host.crash(policy, seed: policySeed), oracle, depth)
                    } catch {
                        faults.withLock { $0.append("\(note); then \(step), \(policy) \(policySeed): \(error)") }
                    }
                }
                return .proceed
            }
            do {
                // The close is a part of it: it drains what the recovery took over.
                try Engine.open(path: Client.path, mode: .readWrite, host: host).close()
            } catch {
                faults.withLock { $0.append("\(note): \(error)") }
            }
            host.onStep(nil)
            if faults.withLock({ $0.count >= 3 }) { break }
        }
        for fault in faults.withLock({ $0 }) { Issue.record("\(fault)") }
        #expect(states.withLock { $0 } > 0)
    }

    @Test(arguments: Scale.seeds(9500, 2))
    func `a killed process loses nothing that was acknowledged`(seed: UInt64) throws {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        let faults = Guarded<[String]>([])
        let random = Guarded(Generator(seed: seed))
        client.host.onStep { [weak client] step in
            guard let client, random.withLock({ $0.chance(30) }) else { return .proceed }
            do {
                var oracle = client.oracle
                // Memory outlives a process, so everything acknowledged is as good as flushed.
                oracle.acknowledgeFlush()
                let next = client.host.killed()
                let again = try Recovery.check(next, oracle, .verify)
                // And what was flushed before the kill outlives a power cut after it.
                let cut = next.crash(.units(percent: 50), seed: random.withLock { $0.next() })
                var flushed = client.oracle
                if again.engine.status().flushedRevision >= oracle.now.revision { flushed = oracle }
                _ = try Recovery.check(cut, flushed, [])
            } catch {
                faults.withLock { $0.append("seed \(seed), \(step), [\(client.log.last ?? "")]: \(error)") }
            }
            return .proceed
        }
        var workload = Workload(seed: seed, mix: .everything)
        for _ in 0..<40 where faults.withLock({ $0.isEmpty }) { try client.perform(workload.next(client.oracle)) }
        for fault in faults.withLock({ $0 }) { Issue.record("\(fault)") }
    }
}
