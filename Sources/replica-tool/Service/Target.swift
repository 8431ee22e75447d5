import Control
import Glibc
import HostIO
import Primitives
import Replication
import Storage

/// A volume or a replica directory that was found, and where its daemon would listen.
struct Target: Sendable {
    enum Kind: String, Sendable { case volume, replica }

    let kind: Kind
    /// Absolute, without links.
    let path: String
    let replicaPath: String
    /// The volume's record; nil for a bare replica and for a volume whose record is lost.
    let volume: VolumeDirectory?
    let socketDirectory: String
    let socketName: String
    let logPath: String
    /// What is worth telling a person about how it was found.
    var remark: String?
    private let host: any Host

    /// - Throws: `notFound`, or `unsupported` for what is neither.
    init(_ given: String, host: any Host) throws(ToolError) {
        guard exists(given) else {
            // What may not be looked at is not said to be missing.
            if errno == EACCES {
                throw ToolError(
                    .failed, "cannot open \(printable(given)): \(errorText(errno)); run it as the owner of the volume")
            }
            throw ToolError(
                .notFound, "\(printable(given)): no such volume or replica; check the path, or see 'replica-tool list'")
        }
        guard isDirectory(given) else {
            throw ToolError(.unsupported, "\(printable(given)) is a file: a volume or a replica is a directory")
        }
        guard access(given, R_OK | X_OK) == 0 else {
            throw ToolError(
                .failed, "cannot open \(printable(given)): \(errorText(errno)); run it as the owner of the volume")
        }
        let path = absolutePath(given)
        if exists(path + "/" + VolumeDirectory.recordName) {
            try self.init(volumeAt: path, host: host)
        } else if exists(path + "/super") {
            self.init(replicaAt: path, host: host)
        } else if exists(path + "/" + VolumeDirectory.firstReplicaName + "/super") {
            self.init(volumeAt: path, record: nil, remark: "\(path) has lost its \(VolumeDirectory.recordName)", host)
        } else if exists(path + "/volume.meta") {
            throw ToolError(
                .unsupported, "\(printable(given)) is a Longhorn replica: this version reads its own format only")
        } else {
            throw ToolError(
                .unsupported,
                "\(printable(given)) is neither a volume nor a replica: it holds no \(VolumeDirectory.recordName) and no super"
            )
        }
    }

    private init(volumeAt path: String, host: any Host) throws(ToolError) {
        do throws(StoreError) {
            self.init(volumeAt: path, record: try VolumeDirectory(path: path, host: host), remark: nil, host)
        } catch {
            // A record that cannot be read is as good as none, as long as the replica is where it always is.
            guard case .damagedMetadata = error, exists(path + "/" + VolumeDirectory.firstReplicaName + "/super") else {
                throw ToolError(error, "cannot open \(path)")
            }
            self.init(volumeAt: path, record: nil, remark: "\(error); the replica inside is used", host)
        }
    }

    private init(volumeAt path: String, record: VolumeDirectory?, remark: String?, _ host: any Host) {
        self.host = host
        kind = .volume
        self.path = path
        replicaPath = record?.replicaPath ?? path + "/" + VolumeDirectory.firstReplicaName
        volume = record
        socketDirectory = path
        socketName = "control.sock"
        logPath = path + "/log"
        self.remark = remark
    }

    private init(replicaAt path: String, host: any Host) {
        let (above, name) = split(path)
        self.host = host
        kind = .replica
        self.path = path
        replicaPath = path
        // A replica of a volume is served by the volume's daemon.
        let owner = try? VolumeDirectory(path: above, host: host)
        let isOwned =
            owner?.record.replicas.contains(name) ?? (name == VolumeDirectory.firstReplicaName && owner != nil)
        volume = isOwned ? owner : nil
        socketDirectory = above
        socketName = isOwned ? "control.sock" : "\(name).control.sock"
        logPath = isOwned ? above + "/log" : above + "/\(name).log"
        remark = nil
    }

    /// The daemon that serves it, if one does.
    func served() throws(ToolError) -> RemoteSession? {
        let client: ControlClient
        do {
            client = try ControlClient(directory: socketDirectory, name: socketName, host: host)
        } catch {
            if error.code == ENOENT || error.code == ECONNREFUSED { return nil }
            throw ToolError(error, "cannot reach the daemon of \(path)")
        }
        do {
            _ = try client.call("hello")
        } catch {
            // The kernel connects also to a process that is ending. If that is why nothing came, nobody serves it.
            let isEnding = error.code == Exit.failed.rawValue
            if isEnding, (try? Processes.waitForExit(of: client.process, milliseconds: 5000)) ?? false { return nil }
            throw ToolError(error)
        }
        return RemoteSession(self, client)
    }

    /// The daemon that serves it, or the volume opened here.
    func session(_ mode: Engine.Mode, host: any Host) throws(ToolError) -> any Session {
        try patiently(host) { () throws(ToolError) in
            if let served = try served() { return served }
            return try LocalSession(self, mode: mode, host: host)
        }
    }

    /// Opens it here.
    /// - Throws: `inUse` while a daemon serves it: who.
    func exclusiveSession(_ mode: Engine.Mode, host: any Host, _ verb: String) throws(ToolError) -> LocalSession {
        try patiently(host) { () throws(ToolError) in
            try refuseIfServed(verb)
            return try LocalSession(self, mode: mode, host: host)
        }
    }

    /// The engine, for the daemon.
    func engine(_ mode: Engine.Mode, host: any Host) throws(ToolError) -> Engine {
        try patiently(host) { () throws(ToolError) in
            try refuseIfServed("mount")
            return try during("cannot mount \(path)") { () throws(StoreError) in
                try Engine.open(path: replicaPath, mode: mode, host: host)
            }
        }
    }

    func refuseIfServed(_ verb: String) throws(ToolError) {
        if let served = try served() { throw ToolError(.inUse, "cannot \(verb) \(path): \(try served.whoServes())") }
    }

    /// Another verb may have the volume open for a moment, and a daemon that is starting is not heard yet: what finds
    /// it in use tries again for a while.
    private func patiently<Result>(
        _ host: any Host, _ body: () throws(ToolError) -> Result
    ) throws(ToolError) -> Result {
        let start = host.monotonicNs()
        while true {
            do throws(ToolError) {
                return try body()
            } catch {
                if error.exit != .inUse || host.monotonicNs() - start > patienceNs { throw error }
            }
            Interruption.shared.wait(nanoseconds: 50_000_000)
            if Interruption.shared.isRequested { throw ToolError(.interrupted, "interrupted") }
        }
    }
}

/// Longer than a verb of a moment needs, shorter than a person waits gladly.
private let patienceNs: UInt64 = 2_000_000_000

extension RemoteSession {
    /// `it is mounted at /mnt by process 17`
    func whoServes() throws(ToolError) -> String {
        let place = try call("status")["served"]?["mountpoint"]?.text
        return "it is mounted" + (place.map { " at \($0)" } ?? "") + " by process \(process)"
    }
}
