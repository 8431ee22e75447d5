import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage

/// What is checked of a volume after a crash.
struct Recovery {
    /// How much is looked at beside the content and the snapshots.
    struct Depth: OptionSet {
        let rawValue: Int
        /// `verify` over every block.
        static let verify = Depth(rawValue: 1)
        /// A second crash right after the recovery, and a close in order.
        static let again = Depth(rawValue: 2)
        static let all: Depth = [.verify, .again]
    }

    /// Opens the volume on a machine that crashed and checks everything that the oracle and the promises say.
    /// - Parameter states: in which the volume may open.
    /// - Returns: a client that can go on.
    /// - Throws: `Violation`, or what `open` threw.
    static func check(
        _ host: SimulatedHost, _ oracle: Oracle, _ depth: Depth, states: Set<String> = ["healthy"]
    ) throws -> Client {
        let outside = outsideImages(host)
        let client = try open(host, oracle, states)
        if depth.contains(.verify) { try verify(client.engine) }
        if depth.contains(.again) { try checkAgain(host, client) }
        if outsideImages(host) != outside { throw Violation("something outside the replica's directory changed") }
        return client
    }

    private static func outsideImages(_ host: SimulatedHost) -> [String: FileImage?] {
        host.images(except: Client.path)
    }

    /// Opens and compares content, snapshots and report with the oracle.
    private static func open(
        _ host: SimulatedHost, _ oracle: Oracle, _ states: Set<String> = ["healthy"]
    ) throws -> Client {
        let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
        let report = engine.recovery
        if report.outcome == .damaged || !report.suspects.isEmpty {
            throw Violation("a power cut is reported as damage: \(report.suspects) \(report.remarks)")
        }
        let status = engine.status()
        if !states.contains(status.state) { throw Violation("it opens as \(status.state): \(status.cause ?? "")") }
        if report.revision != status.revision {
            throw Violation("the report says revision \(report.revision), the status \(status.revision)")
        }
        if report.flushedRevision > report.revision {
            throw Violation("flushed \(report.flushedRevision) of \(report.revision) revisions")
        }
        if report.generation != status.generation || report.historyHash != status.historyHash {
            throw Violation("report and status tell different histories")
        }
        let live = try Client.read(engine, size: engine.size)
        if let fault = oracle.fault(Picture(live), revision: report.revision) {
            throw Violation("\(report.outcome.rawValue): \(fault)")
        }
        let snapshots = try compareSnapshots(engine, oracle)
        return Client(
            host: host, engine: engine,
            oracle: Oracle(live: live, revision: report.revision, snapshots: snapshots))
    }

    /// Every acknowledged snapshot is there and exact; of those in flight, any; no others.
    private static func compareSnapshots(_ engine: Engine, _ oracle: Oracle) throws -> [String: Oracle.Snapshot] {
        var found: [String: Oracle.Snapshot] = [:]
        for info in engine.snapshots() {
            guard let expected = oracle.snapshots[info.name] ?? oracle.unsure[info.name] else {
                throw Violation("there is a snapshot \(info.name) that should not be")
            }
            if info.size != expected.picture.size {
                throw Violation("snapshot \(info.name) is of \(info.size) bytes, not \(expected.picture.size)")
            }
            let view = try engine.openSnapshot(name: info.name)
            let picture = Picture(try Client.read(view, size: info.size))
            if picture != expected.picture {
                throw Violation("snapshot \(info.name): \(picture.difference(expected.picture))")
            }
            found[info.name] = expected
        }
        for name in oracle.snapshots.keys.sorted() where found[name] == nil {
            throw Violation("snapshot \(name) is gone")
        }
        return found
    }

    /// A power cut leaves no damage. A second copy of a map page may be torn and a manifest, which decides nothing,
    /// older or newer than the chain document: verify names both, and nothing else.
    static func verify(_ engine: Engine) throws {
        let findings = try engine.verify(quick: false, rate: nil, progress: nil).findings.filter {
            $0.kind != "manifest" && !($0.kind == "map" && $0.message.hasSuffix("the other slot is good"))
        }
        if findings.isEmpty { return }
        throw Violation("verify finds \(findings.map { "\($0.kind) \($0.path): \($0.message)" })")
    }

    /// After a recovery: a second crash, at once, leads to the same volume; a close in order leads to a clean one, and
    /// opening and closing that changes nothing but the super and what belongs to one opening.
    private static func checkAgain(_ host: SimulatedHost, _ client: Client) throws {
        let second = host.crash(.everything)
        let again = try open(second, client.oracle)
        let first = client.engine.recovery
        if again.engine.recovery.historyHash != first.historyHash {
            throw Violation("a second recovery has another history at revision \(first.revision)")
        }
        try again.engine.close()
        let before = second.images(under: Client.path)
        let third = try open(second, client.oracle)
        if third.engine.recovery.outcome != .clean {
            throw Violation("closed in order, it opens as \(third.engine.recovery.outcome.rawValue)")
        }
        try third.engine.close()
        let after = second.images(under: Client.path)
        let changed = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }
        let own = [Client.path + "/super", Client.path + "/LOCK", Client.path + "/journal"]
        for path in changed.sorted() where !own.contains(path) {
            throw Violation("an idle open and close changed \(path)")
        }
    }
}
