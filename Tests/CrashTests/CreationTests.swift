import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

@Suite struct CreationTests {
    private static let specification = Engine.Specification(size: 1 << 20, journalSize: Client.journalSize)

    /// Opens what a power cut left of a creation.
    private static func fault(_ host: SimulatedHost, isAcknowledged: Bool) -> String? {
        do {
            let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
            let found = try Client.read(engine, size: engine.size)
            return found.count == 1 << 20 && found.allSatisfy { $0 == 0 } ? nil : "it is not an empty volume"
        } catch {
            if isAcknowledged { return "it was made, yet: \(error)" }
            switch error {
            case StoreError.notFound, .unsupportedFormat, .damagedMetadata: return nil
            default: return "\(error)"
            }
        }
    }

    @Test func `a volume cut off while it is made is there and empty, or is said not to be there`() throws {
        let host = SimulatedHost(seed: 1)
        try host.createDirectory("/store")
        try host.openDirectory("/").sync()
        let notes = Guarded<[String]>([])
        let random = Guarded(Generator(seed: 9))
        host.onStep { [weak host] step in
            guard let host else { return .proceed }
            for (policy, seed, _) in random.withLock({ Crasher.plans(&$0, 4) }) {
                if let fault = Self.fault(host.crash(policy, seed: seed), isAcknowledged: false) {
                    notes.withLock { $0.append("\(step), \(policy) \(seed): \(fault)") }
                }
            }
            return .proceed
        }
        try Engine.create(Self.specification, path: Client.path, host: host)
        for note in notes.withLock({ $0.prefix(5) }) { Issue.record("\(note)") }
        host.onStep(nil)
        #expect(Self.fault(host.crash(.nothing), isAcknowledged: true) == nil)
    }

    @Test func `a creation whose calls fail says so, and leaves nothing that opens as something else`() throws {
        let probe = SimulatedHost(seed: 1)
        try probe.createDirectory("/store")
        try Engine.create(Self.specification, path: Client.path, host: probe)
        for code in [5, 28] as [Int32] {
            for chosen in stride(from: 2, through: probe.steps, by: max(1, probe.steps / 40)) {
                let host = SimulatedHost(seed: 1)
                try host.createDirectory("/store")
                host.onStep { $0.number == chosen ? .fail(code) : .proceed }
                do {
                    try Engine.create(Self.specification, path: Client.path, host: host)
                    #expect(Self.fault(host.killed(), isAcknowledged: true) == nil, "errno \(code) at step \(chosen)")
                } catch {
                    #expect(Self.fault(host.killed(), isAcknowledged: false) == nil, "errno \(code) at step \(chosen)")
                }
            }
        }
    }
}
