public import Primitives

/// What `open` found and did.
public struct RecoveryReport: Sendable, Hashable {
    /// What kind of end the last process had.
    public enum Outcome: String, Sendable, Hashable {
        /// It was closed in order.
        case clean
        /// Records of the journal were taken over; nothing was lost.
        case recovered
        /// Unflushed operations behind `revision` were torn and are gone, all of them.
        case rolledBack = "rolled-back"
        /// Flushed data or metadata does not verify; `suspects` names the blocks.
        case damaged
    }
    public var outcome: Outcome
    /// The last operation that the volume holds.
    public var revision: UInt64
    /// The last operation known to have been flushed.
    public var flushedRevision: UInt64
    public var generation: Identifier
    public var historyHash: Hash128
    public var replayedRecords: Int
    public var replayedBytes: UInt64
    public var droppedRecords: Int
    public var droppedBytes: UInt64
    public var suspects: [BlockRange]
    /// For a person: a line for each thing worth knowing.
    public var remarks: [String]
    public var elapsedNs: UInt64

    public init(
        outcome: Outcome, revision: UInt64, flushedRevision: UInt64, generation: Identifier, historyHash: Hash128,
        replayedRecords: Int = 0, replayedBytes: UInt64 = 0, droppedRecords: Int = 0, droppedBytes: UInt64 = 0,
        suspects: [BlockRange] = [], remarks: [String] = [], elapsedNs: UInt64 = 0
    ) {
        self.outcome = outcome
        self.revision = revision
        self.flushedRevision = flushedRevision
        self.generation = generation
        self.historyHash = historyHash
        self.replayedRecords = replayedRecords
        self.replayedBytes = replayedBytes
        self.droppedRecords = droppedRecords
        self.droppedBytes = droppedBytes
        self.suspects = suspects
        self.remarks = remarks
        self.elapsedNs = elapsedNs
    }
}

/// What `verify` found.
public struct VerifyReport: Sendable, Hashable {
    /// One thing that is not as it should be.
    public struct Finding: Sendable, Hashable {
        /// `block`, `map`, `super`, `chain`, `manifest`, `journal`, `orphan`, `missing`.
        public var kind: String
        /// The file, relative to the replica directory.
        public var path: String
        /// The volume's bytes that are affected; nil where no block is.
        public var range: BlockRange?
        /// The snapshot of the layer, nil for the head or no layer.
        public var snapshot: String?
        public var message: String
        /// Whether content is at stake (exit 2), or only a remark (exit 3).
        public var isDamage: Bool

        public init(
            kind: String, path: String, range: BlockRange?, snapshot: String?, message: String, isDamage: Bool
        ) {
            self.kind = kind
            self.path = path
            self.range = range
            self.snapshot = snapshot
            self.message = message
            self.isDamage = isDamage
        }
    }
    public var findings: [Finding]
    public var checkedLayers: Int
    public var checkedBlocks: UInt64
    public var checkedBytes: UInt64
    public var elapsedNs: UInt64

    public init(
        findings: [Finding] = [], checkedLayers: Int = 0, checkedBlocks: UInt64 = 0, checkedBytes: UInt64 = 0,
        elapsedNs: UInt64 = 0
    ) {
        self.findings = findings
        self.checkedLayers = checkedLayers
        self.checkedBlocks = checkedBlocks
        self.checkedBytes = checkedBytes
        self.elapsedNs = elapsedNs
    }

    public var isDamaged: Bool { findings.contains { $0.isDamage } }
}
