public import HostIO
public import Primitives
internal import Storage

/// A volume's state at a moment; taken without waiting for any disk.
public struct EngineStatus: Sendable {
    /// `healthy`, `read-only`, `full`, `failed`.
    public var state: String
    /// Why, for any state but healthy; and what to do.
    public var cause: String?
    public var volume: Identifier
    public var replica: Identifier
    public var generation: Identifier
    public var size: UInt64
    public var revision: UInt64
    public var flushedRevision: UInt64
    public var checkpointRevision: UInt64
    public var historyHash: Hash128
    public var layerCount: Int
    public var snapshotCount: Int
    public var journalSize: UInt64
    public var journalUsed: UInt64
    /// Blocks whose newest version is not in the head's map yet.
    public var overlayBlocks: Int
    /// The running background work: `checkpoint`, `merge`, nil for none.
    public var work: String?
    public var counters: EngineCounters
    public var openedAt: WallTime

    public init(
        state: String, cause: String?, volume: Identifier, replica: Identifier, generation: Identifier, size: UInt64,
        revision: UInt64, flushedRevision: UInt64, checkpointRevision: UInt64, historyHash: Hash128, layerCount: Int,
        snapshotCount: Int, journalSize: UInt64, journalUsed: UInt64, overlayBlocks: Int, work: String?,
        counters: EngineCounters, openedAt: WallTime
    ) {
        self.state = state
        self.cause = cause
        self.volume = volume
        self.replica = replica
        self.generation = generation
        self.size = size
        self.revision = revision
        self.flushedRevision = flushedRevision
        self.checkpointRevision = checkpointRevision
        self.historyHash = historyHash
        self.layerCount = layerCount
        self.snapshotCount = snapshotCount
        self.journalSize = journalSize
        self.journalUsed = journalUsed
        self.overlayBlocks = overlayBlocks
        self.work = work
        self.counters = counters
        self.openedAt = openedAt
    }
}

/// Counted since the volume was opened.
public struct EngineCounters: Sendable, Hashable {
    public var reads: UInt64 = 0
    public var readBytes: UInt64 = 0
    public var writes: UInt64 = 0
    public var writtenBytes: UInt64 = 0
    public var discards: UInt64 = 0
    public var flushes: UInt64 = 0
    public var journalBytes: UInt64 = 0
    public var directBytes: UInt64 = 0
    public var checkpoints: UInt64 = 0
    public var checkpointBytes: UInt64 = 0
    public var damagedReads: UInt64 = 0
    public init() {}
}
