public import HostIO
public import Primitives

/// One snapshot as users see it.
public struct SnapshotInfo: Sendable, Hashable {
    public var name: String
    /// The layer that holds it.
    public var layer: Identifier
    /// The snapshot it stands on, or nil for the oldest.
    public var parent: String?
    public var created: WallTime
    public var labels: [String: String]
    /// A protected snapshot is not deleted until it is unprotected.
    public var isProtected: Bool
    /// The last volume revision that it holds.
    public var revision: UInt64
    /// The volume's size in bytes when it was taken.
    public var size: UInt64
    /// Whether the live head stands on it, directly or through others.
    public var isInLiveChain: Bool
    /// Whether the live head stands on it directly.
    public var isHeadParent: Bool

    public init(
        name: String, layer: Identifier, parent: String?, created: WallTime, labels: [String: String],
        isProtected: Bool, revision: UInt64, size: UInt64, isInLiveChain: Bool, isHeadParent: Bool
    ) {
        self.name = name
        self.layer = layer
        self.parent = parent
        self.created = created
        self.labels = labels
        self.isProtected = isProtected
        self.revision = revision
        self.size = size
        self.isInLiveChain = isInLiveChain
        self.isHeadParent = isHeadParent
    }
}

/// The space that one layer takes.
public struct LayerUsage: Sendable, Hashable {
    /// nil for the live head.
    public var snapshot: String?
    public var layer: Identifier
    /// Bytes of blocks that the layer itself holds.
    public var presentBytes: UInt64
    /// Bytes that no other snapshot and not the head can see.
    public var exclusiveBytes: UInt64
    /// Bytes that a delete of the snapshot gives back now (0 while more than one layer stands on it).
    public var freedIfDeletedBytes: UInt64
    /// Bytes that the layer's image occupies on disk (st_blocks).
    public var allocatedBytes: UInt64
    /// Deleted by a person, its blocks on their way into another layer.
    public var isBeingDeleted: Bool

    public init(
        snapshot: String?, layer: Identifier, presentBytes: UInt64, exclusiveBytes: UInt64,
        freedIfDeletedBytes: UInt64, allocatedBytes: UInt64, isBeingDeleted: Bool
    ) {
        self.snapshot = snapshot
        self.layer = layer
        self.presentBytes = presentBytes
        self.exclusiveBytes = exclusiveBytes
        self.freedIfDeletedBytes = freedIfDeletedBytes
        self.allocatedBytes = allocatedBytes
        self.isBeingDeleted = isBeingDeleted
    }
}

/// A run of the volume with the same origin.
public struct MapExtent: Sendable, Hashable {
    public var start: UInt64
    public var length: UInt64
    /// Layers between the view's top and the one that holds the run: 0 is the top itself. nil: no layer holds it.
    public var depth: Int?
    /// The layer that holds the run, nil if none does.
    public var layer: Identifier?
    /// The name of the snapshot of that layer; nil for the head or a hole.
    public var snapshot: String?
    /// Whether the run is known to read as zeros (a hole, or blocks whose checksum is that of zeros).
    public var isZero: Bool
    public var isPresent: Bool { depth != nil }

    public init(start: UInt64, length: UInt64, depth: Int?, layer: Identifier?, snapshot: String?, isZero: Bool) {
        self.start = start
        self.length = length
        self.depth = depth
        self.layer = layer
        self.snapshot = snapshot
        self.isZero = isZero
    }
}

/// A run in which two views differ.
public struct DiffExtent: Sendable, Hashable {
    public var start: UInt64
    public var length: UInt64
    /// Whether the newer view holds data there; if not, it reads as zeros.
    public var exists: Bool

    public init(start: UInt64, length: UInt64, exists: Bool) {
        self.start = start
        self.length = length
        self.exists = exists
    }
}

/// How far long work is.
public struct Progress: Sendable, Hashable {
    public var doneBytes: UInt64
    public var totalBytes: UInt64
    public init(doneBytes: UInt64, totalBytes: UInt64) {
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
    }
}

/// Called now and then by long work, on its thread; true asks it to stop at the next safe place.
public typealias ProgressHandler = @Sendable (Progress) -> Bool
