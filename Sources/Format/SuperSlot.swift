public import Primitives

/// One slot of `super`: 4096 bytes that say where everything else stands.
///
///     0    magic "RSSUPER1"      8  version u32      12  flags u32
///     16   super sequence u64    24 reserved         32  volume id     48  replica id     64  generation id
///     80   volume size           88  checkpoint revision               96  history hash (128 bits)
///     112  journal size          120 journal tail    128 tail sequence 136 hash of the batch before the tail
///     152  flushed revision      160 group flushed revision
///     168  head layer id         184 head map root   192 blocks present in the head
///     200  chain number          208 chain hash      224 created, seconds
///     232  errno of ERR          240 its revision    248 its block     256 its time, seconds
///     264  length of its text    266 its text (254 bytes)              520 ballast size
///     4080 XXH3-128 of bytes 0 to 4079
///
/// A commit writes the slot of the older sequence, makes it durable, then writes the other slot with the same content
/// and makes that durable too. A torn slot leaves the one before; a rotten one leaves an equal twin.
public struct SuperSlot: Sendable, Hashable {
    /// The state in which the replica was left.
    public struct Flags: OptionSet, Sendable, Hashable {
        public var rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Closed in order: the journal holds nothing and the layers are the whole truth.
        public static let clean = Flags(rawValue: 1)
        /// The replica stopped after an error that `failure` describes.
        public static let failed = Flags(rawValue: 2)
        /// The ballast was given up to drain the journal on a full disk.
        public static let full = Flags(rawValue: 4)
    }

    /// Why a replica stopped.
    public struct Failure: Sendable, Hashable {
        public var code: Int32
        public var revision: UInt64
        public var block: UInt64
        public var seconds: Int64
        public var text: String
        public init(code: Int32, revision: UInt64, block: UInt64, seconds: Int64, text: String) {
            self.code = code
            self.revision = revision
            self.block = block
            self.seconds = seconds
            self.text = text
        }
    }

    public var flags: Flags = []
    public var sequence: UInt64 = 0
    public var volume: Identifier
    public var replica: Identifier
    public var generation: Identifier
    public var volumeSize: UInt64
    public var checkpointRevision: UInt64 = 0
    public var historyHash: Hash128 = .zero
    public var journalSize: UInt64
    public var tailOffset: UInt64 = 0
    public var tailSequence: UInt64 = 1
    public var previousBatchHash: Hash128 = .zero
    public var flushedRevision: UInt64 = 0
    public var groupFlushedRevision: UInt64 = 0
    public var headLayer: Identifier
    public var headRoot: UInt64 = 0
    public var headPresent: UInt64 = 0
    public var chainNumber: UInt64
    public var chainHash: Hash128
    public var createdSeconds: Int64
    public var failure: Failure?
    public var ballastSize: UInt64

    public init(
        volume: Identifier, replica: Identifier, generation: Identifier, volumeSize: UInt64, journalSize: UInt64,
        headLayer: Identifier, chainNumber: UInt64, chainHash: Hash128, createdSeconds: Int64, ballastSize: UInt64
    ) {
        self.volume = volume
        self.replica = replica
        self.generation = generation
        self.volumeSize = volumeSize
        self.journalSize = journalSize
        self.headLayer = headLayer
        self.chainNumber = chainNumber
        self.chainHash = chainHash
        self.createdSeconds = createdSeconds
        self.ballastSize = ballastSize
    }

    public static let byteCount = 4096
    public static let slotCount = 2
    private static let magic: UInt64 = 0x3152_4550_5553_5352  // "RSSUPER1"
    private static let hashOffset = 4080
    private static let failureTextLimit = 254

    /// Writes the slot's 4096 bytes.
    public func encode(into page: UnsafeMutableRawBufferPointer) {
        invariant(page.count == Self.byteCount, "a super slot of \(page.count) bytes")
        for index in 0..<page.count { page[index] = 0 }
        page.store(Self.magic, at: 0)
        page.store(formatVersion, at: 8)
        page.store(flags.rawValue, at: 12)
        page.store(sequence, at: 16)
        page.store(volume, at: 32)
        page.store(replica, at: 48)
        page.store(generation, at: 64)
        page.store(volumeSize, at: 80)
        page.store(checkpointRevision, at: 88)
        page.store(historyHash, at: 96)
        page.store(journalSize, at: 112)
        page.store(tailOffset, at: 120)
        page.store(tailSequence, at: 128)
        page.store(previousBatchHash, at: 136)
        page.store(flushedRevision, at: 152)
        page.store(groupFlushedRevision, at: 160)
        page.store(headLayer, at: 168)
        page.store(headRoot, at: 184)
        page.store(headPresent, at: 192)
        page.store(chainNumber, at: 200)
        page.store(chainHash, at: 208)
        page.store(createdSeconds, at: 224)
        if let failure {
            page.store(failure.code, at: 232)
            page.store(failure.revision, at: 240)
            page.store(failure.block, at: 248)
            page.store(failure.seconds, at: 256)
            let text = Array(failure.text.utf8.prefix(Self.failureTextLimit))
            page.store(UInt16(text.count), at: 264)
            for (index, byte) in text.enumerated() { page[266 + index] = byte }
        }
        page.store(ballastSize, at: 520)
        let hash = hash128(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(page)[0..<Self.hashOffset]))
        page.store(hash, at: Self.hashOffset)
    }

    /// Reads a slot.
    /// - Throws: `notThis` for other bytes, `newer` for a later version, `damaged` if it does not verify.
    public init(decoding page: UnsafeRawBufferPointer) throws(FormatError) {
        guard page.count == Self.byteCount else { throw FormatError(.damaged, "a super slot of \(page.count) bytes") }
        let hash = hash128(UnsafeRawBufferPointer(rebasing: page[0..<Self.hashOffset]))
        let verifies = hash == page.hash128(at: Self.hashOffset)
        guard page.integer(at: 0, as: UInt64.self) == Self.magic else {
            throw FormatError(verifies && !page.isZero ? .damaged : .notThis, "no super slot: the magic is missing")
        }
        guard verifies else { throw FormatError(.damaged, "the super slot does not match its checksum") }
        let version = page.integer(at: 8, as: UInt32.self)
        guard version == formatVersion else {
            throw FormatError(.newer, "format version \(version); this program reads version \(formatVersion)")
        }
        flags = Flags(rawValue: page.integer(at: 12))
        sequence = page.integer(at: 16)
        volume = page.identifier(at: 32)
        replica = page.identifier(at: 48)
        generation = page.identifier(at: 64)
        volumeSize = page.integer(at: 80)
        checkpointRevision = page.integer(at: 88)
        historyHash = page.hash128(at: 96)
        journalSize = page.integer(at: 112)
        tailOffset = page.integer(at: 120)
        tailSequence = page.integer(at: 128)
        previousBatchHash = page.hash128(at: 136)
        flushedRevision = page.integer(at: 152)
        groupFlushedRevision = page.integer(at: 160)
        headLayer = page.identifier(at: 168)
        headRoot = page.integer(at: 184)
        headPresent = page.integer(at: 192)
        chainNumber = page.integer(at: 200)
        chainHash = page.hash128(at: 208)
        createdSeconds = page.integer(at: 224)
        ballastSize = page.integer(at: 520)
        if flags.contains(.failed) {
            let count = min(Int(page.integer(at: 264, as: UInt16.self)), Self.failureTextLimit)
            failure = Failure(
                code: page.integer(at: 232), revision: page.integer(at: 240), block: page.integer(at: 248),
                seconds: page.integer(at: 256), text: String(decoding: page[266..<(266 + count)], as: UTF8.self))
        }
        try checkConsistency()
    }

    /// What must hold of every slot, whoever wrote it.
    public func checkConsistency() throws(FormatError) {
        func check(_ condition: Bool, _ what: String) throws(FormatError) {
            if !condition { throw FormatError(.damaged, "the super slot says \(what)") }
        }
        try check(
            volumeSize >= FormatLimit.volumeSizeMin && volumeSize <= FormatLimit.volumeSize
                && volumeSize % blockSize64 == 0, "the volume has \(volumeSize) bytes")
        try check(
            journalSize >= FormatLimit.journalSizeMin && journalSize <= FormatLimit.journalSizeMax
                && journalSize % blockSize64 == 0, "the journal has \(journalSize) bytes")
        try check(
            tailOffset < journalSize && tailOffset % blockSize64 == 0, "the journal's tail is at \(tailOffset)")
        try check(ballastSize <= 2 * FormatLimit.journalSizeMax, "the ballast has \(ballastSize) bytes")
        try check(tailSequence > 0, "the tail's sequence is 0")
    }
}
