internal import Format
internal import HostIO
public import Primitives

/// One replica: a directory with a super block, a journal, and a tree of sparse layers with their checksum maps.
///
///     writes -> journal (records, small data) -+-> checkpoint -> head image and map
///          \--> head image (large new data) ---+
///     reads  <- newest of: journal, head, draining heads, sealed layers
///
/// Requests are in whole blocks here; `Replication` merges the edges of others. Calls may come from any thread.
///
/// Invariants
/// 1. A block is written in place only after the record that says so is durable, or while nothing durable names it.
/// 2. The map, the chain and the super block change in the lane only.
/// 3. No lock is held over I/O.
public final class Replica: Sendable {
    /// What the replica knows of itself from moment to moment.
    struct State {
        /// Heads that the journal still belongs to, oldest first; the last one is the live head.
        var tiers: [Tier]
        /// The files of `tiers`, in the same order.
        var tierFiles: [LayerFiles]
        /// The sealed layers below the oldest tier.
        var base: ChainView
        /// Every sealed layer of the tree.
        var sealed: [Identifier: Layer]
        /// The chain as the super block names it.
        var document: ChainDocument
        /// Bytes.
        var size: UInt64
        /// Behind the last published record.
        var boundary: Boundary
        /// What a checkpoint that is under way, or failed for lack of space, has frozen.
        var frozen: (boundary: Boundary, tierCount: Int)?
        /// Writes between their first look at the map and their publication.
        var inFlight = 0
        /// New writes wait: somebody changes what they stand on.
        var isBarred = false
        /// The layer whose blocks are moving into the live head: they count as present there.
        var mergeSource: Identifier?
        /// Deleted layers that a thread is merging.
        var dissolving: Set<Identifier> = []
        /// Names of snapshots being made.
        var reservedNames: Set<String> = []
        /// Views of snapshots in use.
        var views: [Identifier: ChainView] = [:]
        var viewUsers: [Identifier: Int] = [:]
        /// Where the content of a layer went that a merge dissolved.
        var moved: [Identifier: Identifier] = [:]
        /// The disk is full: what needs new room is refused.
        var isFull = false
        var failure: SuperSlot.Failure?
        /// Long work stops at its next step.
        var isClosing = false
        var isClosed = false
        var unflushedBytes: UInt64 = 0
        /// Blocks emptied since the last checkpoint began.
        var emptiedBlocks: UInt64 = 0
        var lastWriteNs: UInt64 = 0
        var counters = ReplicaCounters()
        /// Changes with every change of the list of snapshots.
        var snapshotVersion: UInt64 = 0
    }

    let host: any Host
    let directory: any Directory
    let chain: ChainStore
    let superStore: SuperStore
    /// Held open, and so locked, until the replica is closed.
    let lockFile: Guarded<(any File)?>
    let hasher: BlockHasher
    let state: Guarded<State>
    let contexts = ContextPool()
    let lane = Lane()
    /// Set once, before the replica is given to anybody.
    nonisolated(unsafe) private(set) var journal: Journal!
    let isReadOnly: Bool
    let background: Background
    /// What `open` found.
    public let recovery: RecoveryReport

    public var identifier: Identifier { superStore.current.replica }
    public var volume: Identifier { superStore.current.volume }
    public var generation: Identifier { superStore.current.generation }
    public var path: String { directory.path }

    init(
        host: any Host, directory: any Directory, chain: ChainStore, superStore: SuperStore, lockFile: (any File)?,
        state: sending State, isReadOnly: Bool, recovery: RecoveryReport
    ) {
        self.host = host
        self.directory = directory
        self.chain = chain
        self.superStore = superStore
        self.lockFile = Guarded(lockFile)
        hasher = BlockHasher(volume: superStore.current.volume)
        self.state = Guarded(state)
        self.isReadOnly = isReadOnly
        self.recovery = recovery
        background = Background()
    }

    /// Bytes of the volume.
    public var size: UInt64 { state.withLock { $0.size } }
    public var labels: [String: String] { state.withLock { $0.document.labels } }

    /// Gives the replica its journal; once, by `open`.
    func adopt(_ journal: Journal) {
        invariant(self.journal == nil, "a second journal")
        self.journal = journal
    }

    // MARK: Failure

    /// Stops the replica: writes and flushes throw from here on; reads go on, verified.
    func fail(_ error: IOError, revision: UInt64) {
        let failure = SuperSlot.Failure(
            code: error.code, revision: revision, block: 0, seconds: host.wallClock().seconds,
            text: "\(error.call) on \(error.path): \(error.reason)")
        let isFirst = state.withLock { state -> Bool in
            if state.failure != nil { return false }
            state.failure = failure
            return true
        }
        guard isFirst else { return }
        journal.stop(.replicaFailed(failure.text))
        state.wakeAll()
        // The record is for people and for the next open; if it cannot be written, the journal tells the same.
        do throws(IOError) {
            try superStore.commit { slot in
                slot.flags.insert(.failed)
                slot.failure = failure
            }
        } catch {
            return
        }
    }

    /// Turns an I/O error of a change of structure into what the caller is told; anything but a full disk is final.
    func storeError(_ error: IOError) -> StoreError {
        if error.isNoSpace { return .noSpace(error) }
        fail(error, revision: journal.end.revision)
        return .io(error)
    }

    func checkWritable() throws(StoreError) {
        if isReadOnly { throw .readOnly("the replica is open read-only") }
    }

    // MARK: The lane

    /// Runs `body` as the only one that changes the structure.
    func withLane<Result>(_ work: String, _ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        if background.hasThreads {
            lane.enter(work)
        } else if !lane.tryEnter(work) {
            throw .refused("the replica is busy with: \(lane.current ?? "")")
        }
        defer { lane.leave() }
        return try body()
    }

    /// Keeps new writes out and waits for those under way, for the time of `body`. Holds no lock.
    func barringWrites<Result>(_ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        try state.wait { state throws(StoreError) -> Void? in
            if state.isClosed { throw .closed }
            if state.isBarred { return nil }
            state.isBarred = true
            return ()
        }
        defer {
            state.withLock { $0.isBarred = false }
            state.wakeAll()
        }
        state.wait { $0.inFlight == 0 ? () : nil }
        return try body()
    }
}

/// Counted since the replica was opened.
public struct ReplicaCounters: Sendable, Hashable {
    public var journalBytes: UInt64 = 0
    public var directBytes: UInt64 = 0
    public var checkpoints: UInt64 = 0
    public var checkpointBytes: UInt64 = 0
    public var damagedReads: UInt64 = 0
    public init() {}
}
