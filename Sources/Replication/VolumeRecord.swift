public import HostIO
public import Primitives
internal import Storage

/// What `volume.json` says: a convenience. The replica decides about size and identity, and its loss loses no data.
public struct VolumeRecord: Sendable, Hashable {
    /// The version of the file that this program writes, and the newest that it reads.
    public static let formatVersion = 1

    public var identifier: Identifier
    /// A copy of the size that the replica holds.
    public var size: UInt64
    public var labels: [String: String]
    public var created: WallTime
    /// The replica directories, relative to the volume directory.
    public var replicas: [String]
    /// Kept as they were read.
    public var policies: JSON

    public init(
        identifier: Identifier, size: UInt64, labels: [String: String], created: WallTime, replicas: [String],
        policies: JSON = [:]
    ) {
        self.identifier = identifier
        self.size = size
        self.labels = labels
        self.created = created
        self.replicas = replicas
        self.policies = policies
    }

    var json: JSON {
        [
            "format_version": JSON(VolumeRecord.formatVersion), "uuid": .string(identifier.description),
            "size": JSON(size), "labels": JSON(labels), "created": .string(created.rfc3339),
            "replicas": .array(replicas.map { .string($0) }), "policies": policies,
        ]
    }

    /// - Throws: `unsupportedFormat` for a newer version, `damagedMetadata` for anything that is not such a record.
    init(bytes: [UInt8], path: String) throws(StoreError) {
        func damaged(_ what: String) -> StoreError { .damagedMetadata(path: path, what: what) }
        let document: JSON
        do {
            document = try JSON(parsing: bytes)
        } catch {
            throw damaged("not JSON: \(error)")
        }
        guard let version = document["format_version"]?.int else { throw damaged("no format_version") }
        guard version == VolumeRecord.formatVersion else {
            throw .unsupportedFormat(
                "\(path): the volume's format is \(version), this version reads \(VolumeRecord.formatVersion): "
                    + "use a newer replica-tool")
        }
        guard let identifier = document["uuid"]?.text.flatMap({ Identifier($0) }) else { throw damaged("no uuid") }
        guard let size = document["size"]?.count else { throw damaged("no size") }
        guard let names = document["replicas"]?.items, !names.isEmpty else { throw damaged("no replicas") }
        guard names.count <= replicaLimit else { throw damaged("more than \(replicaLimit) replicas") }
        var replicas: [String] = []
        for name in names {
            guard let text = name.text, VolumeRecord.isRelativePath(text) else {
                throw damaged("a replica path that is not inside the volume")
            }
            replicas.append(text)
        }
        self.init(
            identifier: identifier, size: size, labels: document["labels"]?.texts ?? [:],
            created: document["created"]?.text.flatMap { WallTime(rfc3339: $0) }
                ?? WallTime(seconds: 0, nanoseconds: 0),
            replicas: replicas, policies: document["policies"] ?? [:])
    }

    /// A single name: a record from elsewhere never leads out of its own directory.
    private static func isRelativePath(_ text: String) -> Bool {
        !text.isEmpty && text != "." && text != ".." && !text.utf8.contains(UInt8(ascii: "/"))
            && !text.utf8.contains(0) && text.utf8.count <= 255
    }
}

/// The most replicas that a record may name; far above what an engine drives.
private let replicaLimit = 64
