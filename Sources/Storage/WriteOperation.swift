internal import Format
internal import Primitives

/// One volume operation on its way into the journal. Reused; owned by one thread until it is handed to the journal.
final class WriteOperation: @unchecked Sendable {
    enum State { case idle, queued, done, failed(StoreError) }

    /// A run of the operation's blocks with the same fate.
    struct Piece {
        /// Counted from the operation's first block.
        var start: Int
        var count: Int
        /// Its bytes stand in the head's image already.
        var isDirect: Bool
    }

    var kind: JournalOperation = .write
    var isDurable = false
    var block: UInt64 = 0
    var count: UInt64 = 0
    /// One sum for each block of a write, one for the payload of a snapshot.
    let sums: UnsafeMutablePointer<UInt64>
    var sumCount = 0
    /// The bytes, one part behind the other; each a multiple of 4096 bytes.
    let parts: UnsafeMutablePointer<UnsafeRawBufferPointer>
    var partCount = 0
    var pieces: [Piece] = []
    /// For a snapshot: what the record says.
    var snapshot: SnapshotRecord?
    /// For a snapshot: the files of the new head.
    var newHead: LayerFiles?

    /// Guarded by the journal's lock from the moment it is queued.
    var state = State.idle
    var revision: UInt64 = 0

    static let partLimit = 3

    init() {
        sums = .allocate(capacity: FormatLimit.operationBlocks)
        sums.initialize(repeating: 0, count: FormatLimit.operationBlocks)
        parts = .allocate(capacity: Self.partLimit)
        parts.initialize(repeating: UnsafeRawBufferPointer(start: nil, count: 0), count: Self.partLimit)
        pieces.reserveCapacity(40)
    }

    deinit {
        sums.deallocate()
        parts.deallocate()
    }

    func reset(_ kind: JournalOperation, block: UInt64, count: UInt64, isDurable: Bool) {
        self.kind = kind
        self.block = block
        self.count = count
        self.isDurable = isDurable
        sumCount = 0
        partCount = 0
        pieces.removeAll(keepingCapacity: true)
        snapshot = nil
        newHead = nil
        state = .idle
    }

    /// Payload blocks that go into the ring.
    var payloadBlocks: Int {
        switch kind {
        case .write:
            var total = 0
            for piece in pieces where !piece.isDirect { total += piece.count }
            return total
        case .snapshot: return 1
        case .zero, .discard: return 0
        }
    }

    /// Bytes of its pieces and sums in a batch's metadata.
    var metaBytes: Int { max(1, pieces.count) * JournalPiece.byteCount + sumCount * 8 }

    /// The bytes of its block number `index`, counted from its first.
    @inline(__always)
    func bytes(ofBlock index: Int) -> UnsafeRawPointer {
        var offset = index * blockSize
        for part in 0..<partCount {
            if offset < parts[part].count, let base = parts[part].baseAddress { return base + offset }
            offset -= parts[part].count
        }
        invariantFailed("block \(index) behind an operation's bytes")
    }

    /// Calls `body` with each contiguous stretch of the bytes of `count` blocks from block `start`.
    @inline(__always)
    func forEachStretch(start: Int, count: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
        var skip = start * blockSize
        var left = count * blockSize
        for part in 0..<partCount where left > 0 {
            let size = parts[part].count
            if skip >= size {
                skip -= size
                continue
            }
            let length = min(size - skip, left)
            body(UnsafeRawBufferPointer(rebasing: parts[part][skip..<(skip + length)]))
            left -= length
            skip = 0
        }
        invariant(left == 0, "\(left) bytes missing in an operation")
    }
}
