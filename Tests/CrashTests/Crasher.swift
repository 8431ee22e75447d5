import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// Cuts the power at the steps of a running workload, many times at each, and checks every future.
final class Crasher: Sendable {
    private struct State: Sendable {
        var random: Generator
        var states = 0
        var faults: [String] = []
    }

    private let state: Guarded<State>
    private let percent: Int
    private let policiesPerStep: Int
    private let seed: UInt64

    /// - Parameter percent: of the steps, how many in a hundred are looked at.
    init(seed: UInt64, percent: Int = 100, policiesPerStep: Int = 4) {
        self.seed = seed
        self.percent = percent
        self.policiesPerStep = policiesPerStep
        state = Guarded(State(random: Generator(seed: seed ^ 0xC4A5)))
    }

    /// Crash states checked.
    var states: Int { state.withLock { $0.states } }
    /// What was wrong, with what is needed to see it again.
    var faults: [String] { state.withLock { $0.faults } }

    /// Looks at every step of the client's host from now on.
    func watch(_ client: Client) {
        client.host.onStep { [weak client] step in
            if let client { self.look(client, step) }
            return .proceed
        }
    }

    /// Makes the crash states of this moment.
    func look(_ client: Client, _ step: StepInfo) {
        let (isChosen, plans) = state.withLock { state in
            (state.random.chance(percent) && state.faults.count < 3, Self.plans(&state.random, policiesPerStep))
        }
        if !isChosen { return }
        readNow(client, step)
        for (policy, policySeed, depth) in plans {
            state.withLock { $0.states += 1 }
            do {
                _ = try Recovery.check(client.host.crash(policy, seed: policySeed), client.oracle, depth)
            } catch {
                let last = client.log.suffix(4).joined(separator: "; ")
                let note =
                    "seed \(seed), \(step), \(policy) \(policySeed), operation \(client.log.count) [\(last)]: \(error)"
                state.withLock { $0.faults.append(note) }
            }
        }
    }

    /// Readers go on while an operation runs: they see the volume before it or after it.
    private func readNow(_ client: Client, _ step: StepInfo) {
        if !state.withLock({ $0.random.chance(10) }) { return }
        do {
            let found = Picture(try Client.read(client.engine, size: client.engine.size))
            if found == client.oracle.now.picture || client.oracle.running.contains(found) { return }
            let note =
                "seed \(seed), \(step), operation \(client.log.count) [\(client.log.last ?? "")]: read meanwhile, "
                + "\(found.difference(client.oracle.now.picture))"
            state.withLock { $0.faults.append(note) }
        } catch {
            if error == .closed { return }
            state.withLock { $0.faults.append("seed \(seed), \(step): read meanwhile: \(error)") }
        }
    }

    static func plans(_ random: inout Generator, _ count: Int) -> [(CrashPolicy, UInt64, Recovery.Depth)] {
        var plans: [(CrashPolicy, UInt64, Recovery.Depth)] = []
        for index in 0..<count {
            let policy: CrashPolicy
            switch index {
            case 0: policy = .nothing
            case 1: policy = random.chance(50) ? .units(percent: 50) : .torn
            default:
                let all: [CrashPolicy] = [
                    .everything, .units(percent: 10), .units(percent: 90), .operations(percent: 50), .files, .oneUnit,
                    .allButOneUnit, .prefix, .torn, .units(percent: 50),
                ]
                policy = all[random.below(all.count)]
            }
            var depth: Recovery.Depth = []
            if random.chance(20) { depth.insert(.verify) }
            if random.chance(10) { depth.insert(.again) }
            plans.append((policy, random.next(), depth))
        }
        return plans
    }
}
