public import Primitives

/// What a record of the journal does.
public enum JournalOperation: UInt8, Sendable, Hashable {
    case write = 1
    case zero = 2
    case discard = 3
    case snapshot = 4
}

/// The header of one journal batch.
///
///     0   magic "RSBATCH1"   8 version u16   10 flags u16   12 metadata bytes u32
///     16  pieces u32         20 payload blocks u32          24 batch sequence   32 own ring offset
///     40  replica tag        48 salt of this open           56 first revision   64 last revision
///     72  flushed revision   80 group flushed revision      88 hash of the batch before
///     104 XXH3-128 of the metadata (this field as zeros)    120 generation id   136 reserved to 160
///
/// Behind it stand the pieces (32 bytes each), then the sums (8 bytes a block), then the payload blocks:
///
///     metadata of 2048 bytes or less:   [ metadata | again at 2048 ]            [ payload ]
///     more:                             [ metadata, n blocks ][ again ]         [ payload ]
///
/// The metadata stands twice, so that a damaged copy costs nothing; payload blocks are covered by their sums.
/// A batch starts on a block boundary and never wraps: one with the flag WRAP sends the reader to offset 0. Batches are
/// chained by hash, so a record of an earlier lap or an earlier crash never comes to life again.
public struct JournalBatch: Sendable, Hashable {
    /// What a batch is beside a list of records.
    public struct Flags: OptionSet, Sendable, Hashable {
        public var rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }
        /// The next batch stands at offset 0.
        public static let wrap = Flags(rawValue: 1)
        /// Written by a recovery that rolled back: records of earlier batches from `firstRevision` on are void.
        public static let cut = Flags(rawValue: 2)
    }

    public var flags: Flags
    public var metaBytes: Int
    public var pieceCount: Int
    public var payloadBlocks: Int
    public var sequence: UInt64
    public var ringOffset: UInt64
    public var replicaTag: UInt64
    public var salt: UInt64
    public var firstRevision: UInt64
    public var lastRevision: UInt64
    public var flushedRevision: UInt64
    public var groupFlushedRevision: UInt64
    public var previousHash: Hash128
    public var hash: Hash128 = .zero
    public var generation: Identifier

    public init(
        flags: Flags, metaBytes: Int, pieceCount: Int, payloadBlocks: Int, sequence: UInt64, ringOffset: UInt64,
        replicaTag: UInt64, salt: UInt64, firstRevision: UInt64, lastRevision: UInt64, flushedRevision: UInt64,
        groupFlushedRevision: UInt64, previousHash: Hash128, generation: Identifier
    ) {
        self.flags = flags
        self.metaBytes = metaBytes
        self.pieceCount = pieceCount
        self.payloadBlocks = payloadBlocks
        self.sequence = sequence
        self.ringOffset = ringOffset
        self.replicaTag = replicaTag
        self.salt = salt
        self.firstRevision = firstRevision
        self.lastRevision = lastRevision
        self.flushedRevision = flushedRevision
        self.groupFlushedRevision = groupFlushedRevision
        self.previousHash = previousHash
        self.generation = generation
    }

    public static let headerBytes = 160
    /// "RSBATCH1", the first eight bytes of a batch.
    public static let magicNumber: UInt64 = 0x3148_4354_4142_5352
    private static let hashOffset = 104
    /// Metadata up to this many bytes shares one block with its copy.
    public static let smallMetaBytes = 2048

    /// Blocks that metadata of `bytes` bytes and its copy take together.
    @inline(__always)
    public static func metaBlocks(_ bytes: Int) -> Int {
        bytes <= smallMetaBytes ? 1 : 2 * ((bytes + blockSize - 1) / blockSize)
    }

    /// Where the copy of metadata of `bytes` bytes starts, behind the first.
    @inline(__always)
    public static func copyOffset(_ bytes: Int) -> Int {
        bytes <= smallMetaBytes ? smallMetaBytes : (bytes + blockSize - 1) / blockSize * blockSize
    }

    /// Blocks of the whole batch.
    public var blockCount: Int { Self.metaBlocks(metaBytes) + payloadBlocks }
    public var byteCount: UInt64 { UInt64(blockCount) * blockSize64 }

    /// Writes the header and the copy into `meta`, in which pieces and sums already stand; sets `hash`.
    public mutating func seal(_ meta: UnsafeMutableRawBufferPointer) {
        meta.store(Self.magicNumber, at: 0)
        meta.store(UInt16(formatVersion), at: 8)
        meta.store(flags.rawValue, at: 10)
        meta.store(UInt32(metaBytes), at: 12)
        meta.store(UInt32(pieceCount), at: 16)
        meta.store(UInt32(payloadBlocks), at: 20)
        meta.store(sequence, at: 24)
        meta.store(ringOffset, at: 32)
        meta.store(replicaTag, at: 40)
        meta.store(salt, at: 48)
        meta.store(firstRevision, at: 56)
        meta.store(lastRevision, at: 64)
        meta.store(flushedRevision, at: 72)
        meta.store(groupFlushedRevision, at: 80)
        meta.store(previousHash, at: 88)
        meta.store(Hash128.zero, at: Self.hashOffset)
        meta.store(generation, at: 120)
        for offset in stride(from: 136, to: Self.headerBytes, by: 8) { meta.store(UInt64(0), at: offset) }
        hash = hash128(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(meta)[0..<metaBytes]))
        meta.store(hash, at: Self.hashOffset)
        // What lies between the metadata and its copy, and behind the copy, is zeroed: no byte of memory leaks.
        let copy = Self.copyOffset(metaBytes)
        let total = Self.metaBlocks(metaBytes) * blockSize
        guard let base = meta.baseAddress else { return }
        UnsafeMutableRawBufferPointer(start: base + metaBytes, count: copy - metaBytes).zero()
        (base + copy).copyMemory(from: base, byteCount: metaBytes)
        UnsafeMutableRawBufferPointer(start: base + copy + metaBytes, count: total - copy - metaBytes).zero()
    }

    /// Reads and verifies metadata that starts at the beginning of `meta` (which may be longer).
    /// - Throws: `notThis`, `damaged`, `newer`.
    public init(decoding meta: UnsafeRawBufferPointer) throws(FormatError) {
        guard meta.count >= Self.headerBytes, meta.integer(at: 0, as: UInt64.self) == Self.magicNumber else {
            throw FormatError(.notThis, "no journal batch")
        }
        let version = meta.integer(at: 8, as: UInt16.self)
        guard version == UInt16(formatVersion) else { throw FormatError(.newer, "journal batch of version \(version)") }
        metaBytes = Int(meta.integer(at: 12, as: UInt32.self))
        pieceCount = Int(meta.integer(at: 16, as: UInt32.self))
        payloadBlocks = Int(meta.integer(at: 20, as: UInt32.self))
        guard metaBytes >= Self.headerBytes, metaBytes <= FormatLimit.batchMetaBlocks * blockSize,
            metaBytes <= meta.count, payloadBlocks <= FormatLimit.batchPayloadBlocks,
            Self.headerBytes + pieceCount * JournalPiece.byteCount <= metaBytes
        else { throw FormatError(.damaged, "a journal batch with impossible lengths") }
        flags = Flags(rawValue: meta.integer(at: 10))
        sequence = meta.integer(at: 24)
        ringOffset = meta.integer(at: 32)
        replicaTag = meta.integer(at: 40)
        salt = meta.integer(at: 48)
        firstRevision = meta.integer(at: 56)
        lastRevision = meta.integer(at: 64)
        flushedRevision = meta.integer(at: 72)
        groupFlushedRevision = meta.integer(at: 80)
        previousHash = meta.hash128(at: 88)
        generation = meta.identifier(at: 120)
        hash = meta.hash128(at: Self.hashOffset)
        // The hash was taken with its own field as zeros.
        let copy = ByteBuffer(count: metaBytes)
        copy.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: meta[0..<metaBytes]))
        copy.bytes.store(Hash128.zero, at: Self.hashOffset)
        guard hash128(copy.readable) == hash else {
            throw FormatError(.damaged, "a journal batch does not match its checksum")
        }
    }
}

/// One piece of a record: 32 bytes in a batch's metadata.
///
///     0  revision u64   8 operation u8   9 flags u8   10 reserved u16   12 first payload block u32
///     16 first block u64                 24 block count u64
public struct JournalPiece: Sendable, Hashable {
    /// How a piece is stored.
    public struct Flags: OptionSet, Sendable, Hashable {
        public var rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The blocks stand in the head's image already; only their sums are here.
        public static let direct = Flags(rawValue: 1)
        /// The operation is whole with this piece.
        public static let last = Flags(rawValue: 2)
        /// Acknowledged only after a flush.
        public static let durable = Flags(rawValue: 4)
    }

    public var revision: UInt64
    public var operation: JournalOperation
    public var flags: Flags
    /// The place of its first payload block in the batch, counted from the batch's first payload block.
    public var firstPayload: UInt32
    public var block: UInt64
    public var count: UInt64

    public init(
        revision: UInt64, operation: JournalOperation, flags: Flags, firstPayload: UInt32, block: UInt64, count: UInt64
    ) {
        self.revision = revision
        self.operation = operation
        self.flags = flags
        self.firstPayload = firstPayload
        self.block = block
        self.count = count
    }

    public static let byteCount = 32

    /// How many sums the piece has in the batch's metadata.
    public var sumCount: Int {
        switch operation {
        case .write: return Int(count)
        case .snapshot: return 1
        case .zero, .discard: return 0
        }
    }

    /// How many payload blocks the piece has.
    public var payloadCount: Int {
        switch operation {
        case .write: return flags.contains(.direct) ? 0 : Int(count)
        case .snapshot: return 1
        case .zero, .discard: return 0
        }
    }

    public func encode(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        bytes.store(revision, at: offset)
        bytes[offset + 8] = operation.rawValue
        bytes[offset + 9] = flags.rawValue
        bytes.store(UInt16(0), at: offset + 10)
        bytes.store(firstPayload, at: offset + 12)
        bytes.store(block, at: offset + 16)
        bytes.store(count, at: offset + 24)
    }

    public init(decoding bytes: UnsafeRawBufferPointer, at offset: Int) throws(FormatError) {
        guard let operation = JournalOperation(rawValue: bytes[offset + 8]) else {
            throw FormatError(.damaged, "a journal record of the unknown kind \(bytes[offset + 8])")
        }
        self.operation = operation
        revision = bytes.integer(at: offset)
        flags = Flags(rawValue: bytes[offset + 9])
        firstPayload = bytes.integer(at: offset + 12)
        block = bytes.integer(at: offset + 16)
        count = bytes.integer(at: offset + 24)
        let limit = FormatLimit.volumeSize / blockSize64
        guard block <= limit, count <= limit, block + count <= limit else {
            throw FormatError(.damaged, "a journal record beyond any volume")
        }
        if operation == .write && count > UInt64(FormatLimit.operationBlocks) {
            throw FormatError(.damaged, "a journal record of \(count) blocks")
        }
    }
}

/// The hash of a volume's history: each operation is folded into the hash of all before it.
///
/// Equal (generation, revision, history hash) means equal content. It covers what was asked (operation, blocks, sums),
/// not how a replica stored it, so that it is the same on all of them.
public enum History {
    /// The hash after an operation, given the hash before it and the sums of its blocks in order.
    public static func hash(
        after previous: Hash128, operation: JournalOperation, block: UInt64, count: UInt64, sums: UnsafeRawBufferPointer
    ) -> Hash128 {
        let digest = hash128(sums)
        return withUnsafeTemporaryAllocation(byteCount: 56, alignment: 8) { bytes in
            bytes.store(previous, at: 0)
            bytes.store(UInt64(operation.rawValue), at: 16)
            bytes.store(block, at: 24)
            bytes.store(count, at: 32)
            bytes.store(digest, at: 40)
            return hash128(UnsafeRawBufferPointer(bytes))
        }
    }

    /// The hash after a change of the chain that is not in the journal (revert, resize).
    public static func hash(after previous: Hash128, change: String) -> Hash128 {
        var bytes = Array("\(previous) ".utf8)
        bytes.append(contentsOf: change.utf8)
        return bytes.withUnsafeBytes { hash128($0) }
    }
}
