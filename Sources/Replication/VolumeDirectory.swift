public import HostIO
internal import Primitives
public import Storage

/// A volume directory: `volume.json` and, inside, the replica directories.
///
///     VOLUME/volume.json      VolumeRecord, replaced as a whole
///     VOLUME/replica-1/       made by Engine.create
///     VOLUME/control.sock     while it is served
///     VOLUME/log              of the daemon
public struct VolumeDirectory: Sendable {
    public static let recordName = "volume.json"
    public static let firstReplicaName = "replica-1"
    /// Larger records are not read: nothing of this project writes one.
    private static let recordLimit = 1 << 20

    public let path: String
    public let record: VolumeRecord

    /// The first replica's directory.
    public var replicaPath: String { path + "/" + (record.replicas.first ?? VolumeDirectory.firstReplicaName) }

    /// Reads the record of the volume at `path`.
    /// - Throws: `notFound`, `unsupportedFormat`, `damagedMetadata`, `io`.
    public init(path: String, host: any Host) throws(StoreError) {
        self.path = path
        do {
            let directory = try host.openDirectory(path)
            let file = try directory.open(VolumeDirectory.recordName, .readOnly)
            let bytes = try file.readAll(limit: VolumeDirectory.recordLimit)
            record = try VolumeRecord(bytes: bytes, path: file.path)
        } catch let error as StoreError {
            throw error
        } catch let error as IOError {
            throw error.isNotFound ? .notFound("volume \(path)") : .io(error)
        } catch {
            throw .invalid("\(error)")
        }
    }

    /// Makes a volume with one replica in the missing or empty directory at `path`.
    ///
    /// Order: 1. the directory; a crash leaves an empty one, which a later `create` takes. 2. the replica, by its own
    /// order; a crash leaves a directory without a record. 3. the record, by temporary file, fsync, rename and fsync of
    /// the directory; from here on it is a volume. After an error everything is removed again.
    /// - Throws: `exists` for a volume, `invalid` for a foreign directory, `notFound` for a missing parent, and what
    ///   `Engine.create` throws.
    public static func create(
        _ specification: Engine.Specification, path: String, host: any Host
    ) throws(StoreError) -> VolumeDirectory {
        let isOurs = try prepare(path, host: host)
        do {
            let replica = path + "/" + firstReplicaName
            try Engine.create(specification, path: replica, host: host)
            let engine = try Engine.open(path: replica, mode: .readOnly, host: host)
            let identifier = engine.identifier
            try engine.close()
            let record = VolumeRecord(
                identifier: identifier, size: specification.size, labels: specification.labels,
                created: host.wallClock(), replicas: [firstReplicaName])
            let directory = try open(path, host)
            try write(record, in: directory)
            if isOurs { try storing { () throws(IOError) in try host.openDirectory(parent(of: path)).sync() } }
            return try VolumeDirectory(path: path, host: host)
        } catch {
            remove(path, isOurs: isOurs, host: host)
            throw error
        }
    }

    /// Takes away what `create` made at `path`: the replica, the record, and the directory if it was made too.
    public static func remove(_ path: String, isOurs: Bool, host: any Host) {
        guard let directory = try? host.openDirectory(path) else { return }
        removeTree(firstReplicaName, of: directory)
        try? directory.remove(recordName)
        try? directory.remove(temporaryName)
        if isOurs, let above = try? host.openDirectory(parent(of: path)) {
            try? above.removeDirectory(lastComponent(of: path))
            try? above.sync()
        }
    }

    /// Notes the replica's size in the record.
    public func withSize(_ size: UInt64, host: any Host) throws(StoreError) -> VolumeDirectory {
        var changed = record
        changed.size = size
        try VolumeDirectory.write(changed, in: try VolumeDirectory.open(path, host))
        return try VolumeDirectory(path: path, host: host)
    }

    // MARK: Workings

    private static let temporaryName = recordName + ".new"

    /// Whether the directory was made here.
    private static func prepare(_ path: String, host: any Host) throws(StoreError) -> Bool {
        do {
            try host.createDirectory(path)
            return true
        } catch {
            if error.isNotFound { throw .notFound("the directory \(parent(of: path)) for the new volume") }
            guard error.exists else { throw .io(error) }
        }
        let names = try storing { () throws(IOError) in try host.openDirectory(path).list().map(\.name) }
        if names.contains(recordName) { throw .exists("a volume at \(path)") }
        if names.contains("super") { throw .exists("a replica at \(path)") }
        guard names.isEmpty else {
            throw .invalid("\(path) is not empty and holds no volume: give a missing or an empty directory")
        }
        return false
    }

    private static func write(_ record: VolumeRecord, in directory: any Directory) throws(StoreError) {
        let text = Array((record.json.pretty + "\n").utf8)
        let buffer = ByteBuffer(count: text.count)
        buffer.bytes.copyBytes(from: text)
        try storing { () throws(IOError) in
            // What a crash left of an earlier attempt is nobody's.
            do throws(IOError) { try directory.remove(temporaryName) } catch { if !error.isNotFound { throw error } }
            let file = try directory.open(temporaryName, .create)
            try file.write(buffer.readable, at: 0)
            try file.sync()
            try directory.rename(temporaryName, to: recordName)
            try directory.sync()
        }
    }

    private static func removeTree(_ name: String, of parent: any Directory) {
        guard let directory = try? parent.openDirectory(name) else { return }
        for entry in (try? directory.list()) ?? [] {
            if entry.kind == .directory {
                removeTree(entry.name, of: directory)
            } else {
                try? directory.remove(entry.name)
            }
        }
        try? parent.removeDirectory(name)
    }

    private static func open(_ path: String, _ host: any Host) throws(StoreError) -> any Directory {
        try storing { () throws(IOError) in try host.openDirectory(path) }
    }

    private static func storing<Result>(_ body: () throws(IOError) -> Result) throws(StoreError) -> Result {
        do {
            return try body()
        } catch {
            throw error.isNoSpace ? .noSpace(error) : .io(error)
        }
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func lastComponent(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }
}
