import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// Each call to the disk fails in turn, once or for good: nothing acknowledged is lost, nothing wrong is read, and the
/// error says what it is.
@Suite struct FailingCallTests {
    enum Failure: Sendable, CaseIterable {
        case ioOnce, syncOnce, ioForGood, fullOnce, fullForGood, shortWrite

        var action: StepAction {
            switch self {
            case .ioOnce, .syncOnce: return .fail(5)
            case .ioForGood: return .failFromNowOn(5)
            case .fullOnce: return .fail(28)
            case .fullForGood: return .failFromNowOn(28)
            case .shortWrite: return .shortWrite(1000, 5)
            }
        }

        func concerns(_ kind: StepKind) -> Bool {
            switch self {
            case .ioOnce, .ioForGood: return true
            case .syncOnce: return [.sync, .syncData, .syncDirectory].contains(kind)
            case .fullOnce: return [.write, .reserve, .create, .createDirectory, .rename, .truncate].contains(kind)
            case .fullForGood: return true
            case .shortWrite: return kind == .write
            }
        }
    }

    private static let operations = 40

    /// The steps that a whole run takes, and the workload of the seed.
    private func steps(_ seed: UInt64, _ mix: Mix) throws -> ClosedRange<Int> {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        let first = client.host.steps + 1
        var workload = Workload(seed: seed, mix: mix)
        for _ in 0..<Self.operations { try client.perform(workload.next(client.oracle)) }
        return first...client.host.steps
    }

    private func fail(_ seed: UInt64, _ mix: Mix, at chosen: Int, _ failure: Failure) throws {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        let reached = Guarded<String?>(nil)
        client.host.onStep { step in
            guard step.number >= chosen, failure.concerns(step.kind) else { return .proceed }
            let isFirst = reached.withLock { reached in
                if reached != nil { return false }
                reached = "\(step)"
                return true
            }
            return isFirst ? failure.action : .proceed
        }
        var workload = Workload(seed: seed, mix: mix)
        var stopped: (any Error)?
        for _ in 0..<Self.operations where stopped == nil {
            let operation = workload.next(client.oracle)
            do {
                try client.perform(operation)
            } catch let error as StoreError {
                if case .noSpace = error {
                    #expect(client.log.last != "flush", "seed \(seed), \(failure): a flush finds no room")
                    try client.expectRefused(operation)
                } else {
                    stopped = error
                }
            }
        }
        let note =
            "seed \(seed), \(failure) at \(reached.withLock { $0 } ?? "no step"), "
            + "operation \(client.log.count) \(client.log.last ?? ""), then \(stopped.map { "\($0)" } ?? "no error")"
        try expectReadable(client, note)
        // A flush that succeeds now is a promise as any other. After a failed one there is no other.
        if stopped != nil, (try? client.engine.flush()) != nil { client.oracle.acknowledgeFlush() }
        let policies: [CrashPolicy?] = [nil, .nothing, .everything, .units(percent: 50)]
        for policy in policies {
            let next = policy.map { client.host.crash($0, seed: seed) } ?? client.host.killed()
            // By now somebody has made room; after a plain kill nobody has.
            if policy != nil { next.consume(bytes: 0) }
            do {
                try reopen(next, client.oracle, mayBeFull: policy == nil && failure == .fullForGood)
            } catch {
                Issue.record("\(note); after \(policy.map { "\($0)" } ?? "a kill"): \(error)")
            }
        }
    }

    /// Whatever failed, what is read is what was acknowledged, with or without the operation that failed.
    private func expectReadable(_ client: Client, _ note: String) throws {
        do {
            let found = Picture(try Client.read(client.engine, size: client.engine.size))
            let isRight = found == client.oracle.now.picture || client.oracle.running.contains(found)
            #expect(isRight, "\(note): it reads wrong: \(found.difference(client.oracle.now.picture))")
        } catch {
            Issue.record("\(note): it does not read any more: \(error)")
        }
    }

    /// Opens again without the fault; a replica that recorded its failure is read-only and still exact.
    private func reopen(_ host: SimulatedHost, _ oracle: Oracle, mayBeFull: Bool) throws {
        do {
            _ = try Recovery.check(
                host, oracle, mayBeFull ? [] : .all, states: mayBeFull ? ["healthy", "full"] : ["healthy"])
        } catch StoreError.replicaFailed {
            let engine = try Engine.open(path: Client.path, mode: .readOnly, host: host)
            let found = Picture(try Client.read(engine, size: engine.size))
            if let fault = oracle.fault(found, revision: engine.recovery.revision) { throw Violation(fault) }
        }
    }

    @Test(arguments: Scale.seeds(5000, 2), Failure.allCases)
    func `a call that fails loses nothing acknowledged and serves nothing wrong`(
        seed: UInt64, failure: Failure
    ) throws {
        var random = Generator(seed: seed)
        let mix: Mix = seed % 2 == 0 ? .data : .chain
        let all = try steps(seed, mix)
        // Every call at scale 20; a spread sample on each push.
        let count = min(all.count, Int(Double(12) * max(1, Scale.factor)))
        for part in 0..<count {
            let low = all.lowerBound + all.count * part / count
            let high = all.lowerBound + all.count * (part + 1) / count
            try fail(seed, mix, at: low + random.below(max(high - low, 1)), failure)
        }
    }
}
