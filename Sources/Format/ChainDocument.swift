internal import FoundationEssentials
public import Primitives

/// `chain.<n>.json`: the layers of a replica and how they stand on each other.
///
/// A document is immutable: each change writes the next number, twice (`chain.<n>.json`, `chain.<n>.copy.json`), and
/// the super slot that holds the number and the hash of the bytes is the commit. Layers form a tree: the head's
/// ancestors are the live chain, other branches were left behind by reverts.
public struct ChainDocument: Codable, Sendable, Hashable {
    /// What makes a layer a snapshot.
    public struct Snapshot: Codable, Sendable, Hashable {
        public var name: String
        /// Seconds since 1970, and nanoseconds: for display.
        public var createdSeconds: Int64
        public var createdNanoseconds: Int32
        public var labels: [String: String]
        public var protected: Bool
        /// The last revision it holds, and the history up to it.
        public var revision: UInt64
        public var historyHash: String
        /// The volume's bytes when it was taken.
        public var size: UInt64

        public init(
            name: String, createdSeconds: Int64, createdNanoseconds: Int32, labels: [String: String], protected: Bool,
            revision: UInt64, historyHash: String, size: UInt64
        ) {
            self.name = name
            self.createdSeconds = createdSeconds
            self.createdNanoseconds = createdNanoseconds
            self.labels = labels
            self.protected = protected
            self.revision = revision
            self.historyHash = historyHash
            self.size = size
        }
    }

    /// One layer and where it stands.
    public struct Layer: Codable, Sendable, Hashable {
        /// Names `layers/<uuid>.img` and `.sums`.
        public var uuid: String
        /// The layer below, nil at the bottom.
        public var parent: String?
        /// nil for the head, and for a layer that only waits to be merged.
        public var snapshot: Snapshot?
        /// The hash of the map's root page; "0" for an empty map. The head's stands in the super.
        public var root: String
        /// Blocks that the layer holds.
        public var present: UInt64
        /// Deleted by a person: no snapshot any more, its blocks go into another layer.
        public var removed: Bool

        public init(
            uuid: String, parent: String?, snapshot: Snapshot?, root: String, present: UInt64, removed: Bool
        ) {
            self.uuid = uuid
            self.parent = parent
            self.snapshot = snapshot
            self.root = root
            self.present = present
            self.removed = removed
        }
    }

    public var format: UInt32
    public var volume: String
    public var number: UInt64
    /// The volume's present size in bytes.
    public var size: UInt64
    public var head: String
    /// Every layer, the head among them; a parent stands before its children.
    public var layers: [Layer]
    public var labels: [String: String]

    public init(
        volume: String, number: UInt64, size: UInt64, head: String, layers: [Layer], labels: [String: String]
    ) {
        format = formatVersion
        self.volume = volume
        self.number = number
        self.size = size
        self.head = head
        self.layers = layers
        self.labels = labels
    }

    /// `chain.<n>.json`.
    public static func fileName(_ number: UInt64) -> String { "chain.\(number).json" }
    /// `chain.<n>.copy.json`, the same bytes.
    public static func copyName(_ number: UInt64) -> String { "chain.\(number).copy.json" }

    /// The document's bytes: JSON with sorted keys.
    public func encoded() -> [UInt8] { encodeJSON(self) }

    /// - Throws: `damaged`, `newer`.
    public init(decoding bytes: [UInt8]) throws(FormatError) {
        self = try decodeJSON(Self.self, bytes, limit: FormatLimit.chainDocumentBytes)
        try checkConsistency()
    }

    /// What must hold of every chain: known parents without a ring, one head, distinct identifiers and names.
    public func checkConsistency() throws(FormatError) {
        func check(_ condition: Bool, _ what: String) throws(FormatError) {
            if !condition { throw FormatError(.damaged, "the chain document says \(what)") }
        }
        if format != formatVersion { throw FormatError(.newer, "chain document of version \(format)") }
        try check(layers.count <= FormatLimit.layers, "there are \(layers.count) layers")
        try check(size >= FormatLimit.volumeSizeMin && size <= FormatLimit.volumeSize, "a size of \(size)")
        try check(Identifier(volume) != nil, "the volume is '\(volume)'")
        var seen: Set<String> = []
        var names: Set<String> = []
        for layer in layers {
            try check(Identifier(layer.uuid) != nil, "a layer is '\(layer.uuid)'")
            try check(seen.insert(layer.uuid).inserted, "layer \(layer.uuid) twice")
            if let parent = layer.parent {
                // A parent stands before its child, so there can be no ring.
                try check(seen.contains(parent) && parent != layer.uuid, "\(layer.uuid) stands on \(parent)")
            }
            try check(UInt64(layer.root, radix: 16) != nil, "a root of '\(layer.root)'")
            if let snapshot = layer.snapshot, !layer.removed {
                try check(SnapshotName.fault(snapshot.name) == nil, "a snapshot with a forbidden name")
                try check(names.insert(snapshot.name).inserted, "two snapshots named \(snapshot.name)")
            }
            if let snapshot = layer.snapshot {
                try check(snapshot.size <= FormatLimit.volumeSize, "a snapshot of \(snapshot.size) bytes")
                try check(Hash128(snapshot.historyHash) != nil, "a history hash of '\(snapshot.historyHash)'")
            }
        }
        try check(layers.contains { $0.uuid == head && $0.snapshot == nil }, "the head is \(head)")
    }
}

/// `layers/<uuid>.json`: what the chain says of one sealed layer, beside the layer itself.
///
/// It decides nothing; it serves people, scripts and salvage when the chain document is lost.
public struct LayerManifest: Codable, Sendable, Hashable {
    public var format: UInt32
    public var volume: String
    public var layer: ChainDocument.Layer
    /// XXH3-128 of the document with this member empty.
    public var hash: String

    public init(volume: Identifier, layer: ChainDocument.Layer) {
        format = formatVersion
        self.volume = volume.description
        self.layer = layer
        hash = ""
        hash = digest()
    }

    private func digest() -> String {
        var copy = self
        copy.hash = ""
        return copy.encoded().withUnsafeBytes { hash128($0) }.description
    }

    /// The manifest's bytes: JSON with sorted keys.
    public func encoded() -> [UInt8] { encodeJSON(self) }

    /// - Throws: `damaged`, `newer`.
    public init(decoding bytes: [UInt8]) throws(FormatError) {
        self = try decodeJSON(Self.self, bytes, limit: FormatLimit.manifestBytes)
        if format != formatVersion { throw FormatError(.newer, "manifest of version \(format)") }
        guard hash == digest(), encoded() == bytes else {
            throw FormatError(.damaged, "the manifest does not match its checksum")
        }
    }
}

/// The payload of a SNAPSHOT record.
public struct SnapshotRecord: Codable, Sendable, Hashable {
    public var name: String
    public var createdSeconds: Int64
    public var createdNanoseconds: Int32
    public var labels: [String: String]
    /// The layer that is the head from here on.
    public var newHead: String

    public init(
        name: String, createdSeconds: Int64, createdNanoseconds: Int32, labels: [String: String], newHead: String
    ) {
        self.name = name
        self.createdSeconds = createdSeconds
        self.createdNanoseconds = createdNanoseconds
        self.labels = labels
        self.newHead = newHead
    }

    /// One block: the JSON, filled up with zeros; nil if it does not fit.
    public func encode(into block: UnsafeMutableRawBufferPointer) -> Bool {
        let bytes = encodeJSON(self)
        guard bytes.count <= block.count else { return false }
        for index in 0..<block.count { block[index] = index < bytes.count ? bytes[index] : 0 }
        return true
    }

    public init(decoding block: UnsafeRawBufferPointer) throws(FormatError) {
        let end = block.firstIndex(of: 0) ?? block.count
        self = try decodeJSON(Self.self, Array(block[0..<end]), limit: blockSize)
        guard Identifier(newHead) != nil, SnapshotName.fault(name) == nil else {
            throw FormatError(.damaged, "a snapshot record with a forbidden name")
        }
    }
}

/// The project's JSON: sorted keys, so that the same value has the same bytes everywhere.
private func encodeJSON(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    do {
        return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
    } catch {
        invariantFailed("a document of ours cannot be written as JSON: \(error)")
    }
}

private func decodeJSON<Value: Decodable>(
    _ type: Value.Type, _ bytes: [UInt8], limit: Int
) throws(FormatError) -> Value {
    guard bytes.count <= limit else { throw FormatError(.damaged, "a document of \(bytes.count) bytes") }
    // Nesting is bounded before the parser sees it: a parser may recurse.
    var depth = 0
    var inString = false
    var escaped = false
    for byte in bytes {
        if inString {
            if escaped {
                escaped = false
            } else if byte == UInt8(ascii: "\\") {
                escaped = true
            } else if byte == UInt8(ascii: "\"") {
                inString = false
            }
            continue
        }
        switch byte {
        case UInt8(ascii: "\""): inString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
            if depth > documentDepthLimit { throw FormatError(.damaged, "a document nested too deep") }
        case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
        default: break
        }
    }
    do {
        return try JSONDecoder().decode(type, from: Data(bytes))
    } catch {
        throw FormatError(.damaged, "the document is not readable")
    }
}

/// The deepest nesting that a document of ours has is 5.
private let documentDepthLimit = 8
