internal import Format
internal import HostIO
internal import Primitives

/// Reads a journal from its tail and finds how far it can be believed.
///
/// It accepts batches while magic, place, replica, sequence and hash chain hold, from whichever copy of the metadata
/// verifies. Payload that does not match its sum is remembered: whether it is a torn tail or damage depends on what a
/// later flush proves, which only the end of the scan tells.
struct JournalScan {
    /// One operation as the journal has it.
    struct Operation {
        var revision: UInt64
        var kind: JournalOperation
        var block: UInt64
        var count: UInt64
        /// Its sums are `sums[firstSum ..< firstSum + sumCount]` of the scan.
        var firstSum: Int
        var sumCount: Int
        /// Where its blocks are: for each piece the ring block of its first one, or nil if they are in the image.
        var pieces: [(start: Int, count: Int, ring: UInt64?)]
    }

    /// Payload blocks that do not match their sums.
    struct BadPayload {
        var revision: UInt64
        var block: UInt64
    }

    var operations: [Operation] = []
    var sums: [UInt64] = []
    var badPayload: [BadPayload] = []
    /// Behind the last accepted batch, all records counted.
    var end: Boundary
    /// The highest revision that any batch or the super block says was flushed.
    var flushed: UInt64
    /// A batch that must have been durable cannot be read: the operations from this revision on are unknown.
    var gap: UInt64?
    /// Batches of which only one copy of the metadata verified.
    var remarks: [String] = []
    var batches = 0
    var bytes: UInt64 = 0
    /// Bytes behind the end that look like batches of the same life: torn, or chained to a torn one.
    var tornBytes: UInt64 = 0

    private let file: any File
    private let capacity: UInt64
    private let replicaTag: UInt64
    private let window: ByteBuffer
    private var windowStart: UInt64 = .max

    private init(super slot: SuperSlot, file: any File) {
        self.file = file
        capacity = slot.journalSize / blockSize64
        replicaTag = slot.replica.high ^ slot.replica.low
        end = Boundary(
            revision: slot.checkpointRevision, historyHash: slot.historyHash,
            position: slot.tailOffset / blockSize64, sequence: slot.tailSequence, previousHash: slot.previousBatchHash)
        flushed = max(slot.flushedRevision, slot.checkpointRevision)
        window = ByteBuffer(count: windowBytes)
    }

    /// Scans `file` (read from the device) from the tail that `slot` names.
    static func run(super slot: SuperSlot, file: any File) throws(IOError) -> JournalScan {
        var scan = JournalScan(super: slot, file: file)
        let start = scan.end.position
        while scan.end.position - start < scan.capacity {
            guard let (batch, meta) = try scan.readBatch(at: scan.end.position % scan.capacity) else { break }
            guard batch.sequence == scan.end.sequence, batch.previousHash == scan.end.previousHash,
                try scan.accept(batch, meta)
            else { break }
        }
        try scan.lookAhead()
        return scan
    }

    /// Bytes of the ring from block `block` on, at most to the end of the file; valid until the next call.
    private mutating func bytes(at block: UInt64, count: Int) throws(IOError) -> UnsafeRawBufferPointer {
        let available = Int(min(UInt64(count), capacity - block)) * blockSize
        let offset = block * blockSize64
        if offset < windowStart || offset + UInt64(available) > windowStart + UInt64(window.count)
            || windowStart == .max
        {
            let length = Int(min(UInt64(window.count), capacity * blockSize64 - offset))
            try file.readPadded(into: window.part(0, length), at: offset)
            windowStart = offset
        }
        return UnsafeRawBufferPointer(window.part(Int(offset - windowStart), available))
    }

    /// The metadata of a batch that claims to stand at ring block `block`, from its first copy that verifies.
    private mutating func readBatch(at block: UInt64) throws(IOError) -> (JournalBatch, [UInt8])? {
        let area = try bytes(at: block, count: 2 * FormatLimit.batchMetaBlocks)
        var starts = [0, JournalBatch.smallMetaBytes]
        for blocks in 1...FormatLimit.batchMetaBlocks { starts.append(blocks * blockSize) }
        for start in starts where start + JournalBatch.headerBytes <= area.count {
            let part = UnsafeRawBufferPointer(rebasing: area[start...])
            guard let batch = try? JournalBatch(decoding: part), batch.ringOffset == block * blockSize64,
                batch.replicaTag == replicaTag
            else { continue }
            // A copy stands where its own length puts it; anything else belongs to another batch.
            if start != 0 && JournalBatch.copyOffset(batch.metaBytes) != start { continue }
            guard block + UInt64(batch.blockCount) <= capacity else { continue }
            if start != 0 {
                remarks.append("journal batch \(batch.sequence): the first copy of its metadata is damaged")
            }
            return (batch, Array(part[0..<batch.metaBytes]))
        }
        return nil
    }

    /// Takes over a batch that stands in its place in the chain. False if its records make no sense.
    private mutating func accept(_ batch: JournalBatch, _ meta: [UInt8]) throws(IOError) -> Bool {
        let position = end.position
        if batch.flags.contains(.cut) {
            guard batch.firstRevision <= end.revision + 1, batch.firstRevision > 0 else { return false }
            dropOperations(from: batch.firstRevision)
        } else if batch.flags.contains(.wrap) {
            // It holds no record; a change of the chain may have moved the revision on since it was written.
            let revision = end.revision
            advance(batch, by: capacity - position % capacity)
            end.revision = revision
            return true
        } else if batch.firstRevision != end.revision + 1 {
            return false
        }
        guard var found = meta.withUnsafeBytes({ Self.operations(of: batch, meta: $0) }) else { return false }
        let payloadStart = position % capacity + UInt64(JournalBatch.metaBlocks(batch.metaBytes))
        // Sums are moved into the scan's own list; pieces get their place in the ring.
        for index in found.operations.indices {
            found.operations[index].firstSum += sums.count
            for piece in found.operations[index].pieces.indices {
                if let ring = found.operations[index].pieces[piece].ring {
                    found.operations[index].pieces[piece].ring = ring + payloadStart
                }
            }
        }
        sums.append(contentsOf: found.sums)
        operations.append(contentsOf: found.operations)
        advance(batch, by: UInt64(batch.blockCount))
        return true
    }

    private mutating func advance(_ batch: JournalBatch, by blocks: UInt64) {
        end = Boundary(
            revision: batch.lastRevision, historyHash: end.historyHash, position: end.position + blocks,
            sequence: end.sequence + 1, previousHash: batch.hash)
        flushed = max(flushed, batch.flushedRevision)
        batches += 1
        bytes += blocks * blockSize64
    }

    private mutating func dropOperations(from revision: UInt64) {
        operations.removeAll { $0.revision >= revision }
        badPayload.removeAll { $0.revision >= revision }
    }

    /// The records in a batch's metadata; nil if they do not fit together.
    static func operations(
        of batch: JournalBatch, meta: UnsafeRawBufferPointer
    ) -> (operations: [Operation], sums: [UInt64])? {
        var operations: [Operation] = []
        var sums: [UInt64] = []
        var sumOffset = JournalBatch.headerBytes + batch.pieceCount * JournalPiece.byteCount
        var expected = batch.firstRevision
        var isOpen = false
        var payload: UInt32 = 0
        for index in 0..<batch.pieceCount {
            guard
                let piece = try? JournalPiece(
                    decoding: meta, at: JournalBatch.headerBytes + index * JournalPiece.byteCount),
                piece.revision == expected, sumOffset + piece.sumCount * 8 <= meta.count,
                Int(payload) + piece.payloadCount <= batch.payloadBlocks,
                piece.payloadCount == 0 || piece.firstPayload == payload
            else { return nil }
            let firstSum = sums.count
            for number in 0..<piece.sumCount { sums.append(meta.integer(at: sumOffset + number * 8)) }
            sumOffset += piece.sumCount * 8
            let ring = piece.payloadCount == 0 ? nil : UInt64(piece.firstPayload)
            if isOpen {
                var operation = operations[operations.count - 1]
                guard operation.kind == .write, piece.operation == .write,
                    operation.block + operation.count == piece.block
                else { return nil }
                operation.pieces.append((Int(operation.count), Int(piece.count), ring))
                operation.count += piece.count
                operation.sumCount += piece.sumCount
                operations[operations.count - 1] = operation
            } else {
                operations.append(
                    Operation(
                        revision: piece.revision, kind: piece.operation, block: piece.block, count: piece.count,
                        firstSum: firstSum, sumCount: piece.sumCount,
                        pieces: [(0, Int(truncatingIfNeeded: piece.count), ring)]))
            }
            payload += UInt32(piece.payloadCount)
            isOpen = !piece.flags.contains(.last)
            if !isOpen { expected += 1 }
        }
        guard !isOpen, expected == batch.lastRevision + 1 else { return nil }
        return (operations, sums)
    }

    /// Compares the payload of every operation in the ring with its sums, and fills `badPayload`.
    mutating func verifyPayload(_ hasher: BlockHasher) throws(IOError) {
        for operation in operations {
            for piece in operation.pieces {
                guard let ring = piece.ring else { continue }
                let count = operation.kind == .snapshot ? 1 : piece.count
                let area = try bytes(at: ring, count: count)
                for index in 0..<count {
                    let number = operation.block + UInt64(piece.start + index)
                    let sum = hasher.sum(area.baseAddress! + index * blockSize, block: number)
                    if sum != sums[operation.firstSum + piece.start + index] {
                        badPayload.append(BadPayload(revision: operation.revision, block: number))
                    }
                }
            }
        }
    }

    /// Looks behind the end for a batch that proves that the one missing there had been flushed.
    ///
    /// Only a batch of the same life, with a later sequence, counts, and only if it says that a revision behind the end
    /// was durable. Then the missing batch is not a torn tail but damage, and its operations are unknown.
    private mutating func lookAhead() throws(IOError) {
        let missing = end.revision + 1
        if flushed >= missing {
            gap = missing
            return
        }
        var distance: UInt64 = 0
        let start = end.position % capacity
        while distance < lookAheadBlocks && distance < capacity {
            let block = (start + distance) % capacity
            distance += 1
            let head = try bytes(at: block, count: 1)
            guard head.integer(at: 0, as: UInt64.self) == JournalBatch.magicNumber || distance == 1 else { continue }
            let before = remarks.count
            let found = try readBatch(at: block)
            remarks.removeSubrange(before...)
            guard let (batch, _) = found, batch.sequence >= end.sequence,
                batch.sequence - end.sequence <= lookAheadBlocks
            else { continue }
            tornBytes += batch.byteCount
            if batch.sequence > end.sequence && batch.flushedRevision >= missing {
                gap = missing
                return
            }
        }
    }
}

/// How much of the ring is read at once.
private let windowBytes = 4 << 20
/// How far behind the end a proof of a flush is looked for: more than twice the largest batch.
private let lookAheadBlocks: UInt64 = 1200
