internal import Format
internal import HostIO
internal import Primitives

/// A point between two batches: everything before it, and nothing behind.
struct Boundary: Sendable, Equatable {
    /// The last revision before it.
    var revision: UInt64
    var historyHash: Hash128
    /// Blocks of the ring written before it, counted over all laps since the file was opened.
    var position: UInt64
    /// The sequence of the batch behind it.
    var sequence: UInt64
    /// The hash of the batch before it.
    var previousHash: Hash128
}

/// The ring of batches: the order of all operations of the volume, and the bytes of the small ones.
///
/// Writers queue their operations; the first of them becomes the leader, writes what is queued as one batch and wakes
/// the others. The same for flushes. No lock is held over a write or a flush.
///
/// Invariants
/// 1. tail <= head <= tail + capacity, counted in blocks over all laps.
/// 2. Blocks between tail and head are never written again before a checkpoint moved the tail durably.
/// 3. Revisions of queued operations are given in the order of the queue.
final class Journal: Sendable {
    static let fileName = "journal"

    private struct State {
        var queue: [WriteOperation] = []
        var batch: [WriteOperation] = []
        var isLed = false
        /// Behind the last batch that was written.
        var end: Boundary
        var tail: UInt64
        /// Everything up to here is durable.
        var flushed: UInt64
        var isFlushing = false
        var failure: StoreError?
        /// The disk is full: who needs room in the ring is refused instead of waiting.
        var isFull = false
        var batches: UInt64 = 0
        var bytes: UInt64 = 0
    }

    /// What the journal asks of the replica that owns it.
    struct Owner: Sendable {
        /// Takes over the records of a batch: called by the leader after the write, before anybody is woken.
        var publish: @Sendable (_ operations: [WriteOperation], _ places: [UInt64], _ end: Boundary) -> Void
        /// The ring is short of room: see to a checkpoint. Called without locks; may run it.
        var wantRoom: @Sendable () -> Void
        /// Whether another thread can make room; if not, a request that finds none is refused.
        var canWait: @Sendable () -> Bool
        /// Makes direct data durable: fdatasync of every image with direct writes.
        var flushImages: @Sendable () throws(IOError) -> Void
        /// A write or a flush failed: the replica is ERR from here on.
        var fail: @Sendable (_ error: IOError, _ revision: UInt64) -> Void
    }

    let file: any File
    let capacity: UInt64
    private let replicaTag: UInt64
    private let salt: UInt64
    private let generation: Identifier
    private let state: Guarded<State>
    private let owner: Owner
    /// Belongs to the leader.
    private let meta = ByteBuffer(count: 2 * FormatLimit.batchMetaBlocks * blockSize)

    init(
        file: any File, capacity: UInt64, replica: Identifier, generation: Identifier, salt: UInt64, end: Boundary,
        tail: UInt64, flushed: UInt64, owner: Owner
    ) {
        self.file = file
        self.capacity = capacity
        replicaTag = replica.high ^ replica.low
        self.generation = generation
        self.salt = salt
        self.owner = owner
        state = Guarded(State(end: end, tail: tail, flushed: flushed))
        parts.reserveCapacity(FormatLimit.batchPayloadBlocks)
    }

    // Belong to the leader.
    private nonisolated(unsafe) var parts: [UnsafeRawBufferPointer] = []
    private nonisolated(unsafe) var places: [UInt64] = []

    struct Figures: Sendable {
        var revision: UInt64
        var flushed: UInt64
        var usedBlocks: UInt64
        var batches: UInt64
        var bytes: UInt64
        var historyHash: Hash128
    }

    var figures: Figures {
        state.withLock {
            Figures(
                revision: $0.end.revision, flushed: $0.flushed, usedBlocks: $0.end.position - $0.tail,
                batches: $0.batches, bytes: $0.bytes, historyHash: $0.end.historyHash)
        }
    }

    var end: Boundary { state.withLock { $0.end } }
    var failure: StoreError? { state.withLock { $0.failure } }

    /// Whether a checkpoint should make room now: the ring is half full.
    var isHalfFull: Bool { state.withLock { ($0.end.position - $0.tail) * 2 >= capacity } }

    // MARK: Writing

    /// Puts the operation into the journal; on return it is in the kernel and published, and has its revision.
    func append(_ operation: WriteOperation) throws(StoreError) {
        let leads = state.withLock { state -> Bool in
            operation.state = .queued
            state.queue.append(operation)
            if state.isLed { return false }
            state.isLed = true
            return true
        }
        if !leads {
            // Another thread writes: it will take this operation along, or hand the lead over.
            let mustLead = state.wait { state -> Bool? in
                guard case .queued = operation.state else { return false }
                if state.isLed { return nil }
                state.isLed = true
                return true
            }
            if !mustLead { return try result(of: operation) }
        }
        lead(until: operation)
        try result(of: operation)
    }

    private func result(of operation: WriteOperation) throws(StoreError) {
        if case .failed(let error) = operation.state { throw error }
    }

    private func lead(until own: WriteOperation) {
        while true {
            let operations = state.withLock { takeBatch(&$0) }
            writeBatch(operations)
            let goesOn = state.withLock { state -> Bool in
                if case .queued = own.state { return true }
                state.isLed = false
                return false
            }
            state.wakeAll()
            if !goesOn { return }
        }
    }

    /// Moves the front of the queue into the batch: as much as the limits allow, at least one.
    private func takeBatch(_ state: inout State) -> [WriteOperation] {
        var metaBytes = JournalBatch.headerBytes
        var payload = 0
        var taken = 0
        for operation in state.queue {
            let nextMeta = metaBytes + operation.metaBytes
            let nextPayload = payload + operation.payloadBlocks
            if taken > 0
                && (nextMeta > FormatLimit.batchMetaBlocks * blockSize || nextPayload > batchPayloadSoftLimit)
            {
                break
            }
            metaBytes = nextMeta
            payload = nextPayload
            taken += 1
        }
        if taken == state.queue.count {
            swap(&state.queue, &state.batch)
            state.queue.removeAll(keepingCapacity: true)
        } else {
            state.batch = Array(state.queue[0..<taken])
            state.queue.removeSubrange(0..<taken)
        }
        return state.batch
    }

    private func finish(_ operations: [WriteOperation], _ error: StoreError?) {
        state.withLock { state in
            for operation in operations { operation.state = error.map { .failed($0) } ?? .done }
        }
    }

    private func writeBatch(_ operations: [WriteOperation]) {
        var metaBytes = JournalBatch.headerBytes
        var payload = 0
        for operation in operations {
            metaBytes += operation.metaBytes
            payload += operation.payloadBlocks
        }
        let blocks = UInt64(JournalBatch.metaBlocks(metaBytes) + payload)
        let start: (end: Boundary, flushed: UInt64)
        do throws(StoreError) {
            start = try makeRoom(blocks)
        } catch {
            return finish(operations, error)
        }
        do throws(IOError) {
            var end = start.end
            if end.position % capacity + blocks > capacity { end = try writeWrap(end, flushed: start.flushed) }
            end = try write(operations, metaBytes: metaBytes, payload: payload, at: end, flushed: start.flushed)
            owner.publish(operations, places, end)
            state.withLock { state in
                state.end = end
                state.batches += 1
                state.bytes += blocks * blockSize64
                for operation in operations { operation.state = .done }
            }
        } catch {
            // The operations were never acknowledged and the batch is not chained to anything: the next one starts at
            // the same place. A full disk is the writer's to know; anything else ends this replica.
            if error.isNoSpace { return finish(operations, .noSpace(error)) }
            owner.fail(error, start.end.revision + 1)
            finish(operations, .io(error))
        }
    }

    /// Waits until the ring has room for `blocks` and a wrap, and keeps one batch of room for a recovery's cut.
    private func makeRoom(_ blocks: UInt64) throws(StoreError) -> (end: Boundary, flushed: UInt64) {
        func look(_ state: inout State) throws(StoreError) -> (end: Boundary, flushed: UInt64)? {
            if let failure = state.failure { throw failure }
            let offset = state.end.position % capacity
            let skipped = offset + blocks > capacity ? capacity - offset : 0
            let used = state.end.position - state.tail
            if used + skipped + blocks + ringReserveBlocks <= capacity { return (state.end, state.flushed) }
            if state.isFull { throw .noSpace(nil) }
            return nil
        }
        func lookOnce(_ state: inout State) -> Result<(end: Boundary, flushed: UInt64)?, StoreError> {
            do throws(StoreError) { return .success(try look(&state)) } catch { return .failure(error) }
        }
        if let found = try state.withLock({ lookOnce(&$0) }).get() { return found }
        owner.wantRoom()
        if !owner.canWait() {
            guard let found = try state.withLock({ lookOnce(&$0) }).get() else { throw .noSpace(nil) }
            return found
        }
        return try state.wait { state throws(StoreError) in try look(&state) }
    }

    private func header(
        _ flags: JournalBatch.Flags, metaBytes: Int, pieces: Int, payload: Int, at end: Boundary, first: UInt64,
        last: UInt64, flushed: UInt64
    ) -> JournalBatch {
        JournalBatch(
            flags: flags, metaBytes: metaBytes, pieceCount: pieces, payloadBlocks: payload, sequence: end.sequence,
            ringOffset: end.position % capacity * blockSize64, replicaTag: replicaTag, salt: salt,
            firstRevision: first, lastRevision: last, flushedRevision: flushed, groupFlushedRevision: flushed,
            previousHash: end.previousHash, generation: generation)
    }

    /// Sends the reader to the start of the file.
    private func writeWrap(_ end: Boundary, flushed: UInt64) throws(IOError) -> Boundary {
        var batch = header(
            .wrap, metaBytes: JournalBatch.headerBytes, pieces: 0, payload: 0, at: end, first: end.revision + 1,
            last: end.revision, flushed: flushed)
        batch.seal(meta.bytes)
        try file.write(
            UnsafeRawBufferPointer(rebasing: meta.readable[0..<blockSize]), at: end.position % capacity * blockSize64)
        let next = Boundary(
            revision: end.revision, historyHash: end.historyHash,
            position: end.position + (capacity - end.position % capacity), sequence: end.sequence + 1,
            previousHash: batch.hash)
        state.withLock { $0.end = next }
        return next
    }

    private func write(
        _ operations: [WriteOperation], metaBytes: Int, payload: Int, at end: Boundary, flushed: UInt64
    ) throws(IOError) -> Boundary {
        var pieceOffset = JournalBatch.headerBytes
        var pieceCount = 0
        for operation in operations { pieceCount += max(1, operation.pieces.count) }
        var sumOffset = pieceOffset + pieceCount * JournalPiece.byteCount
        var nextPayload = 0
        var history = end.historyHash
        var revision = end.revision
        let firstPayload = end.position % capacity + UInt64(JournalBatch.metaBlocks(metaBytes))
        parts.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        let metaLength = JournalBatch.metaBlocks(metaBytes) * blockSize
        parts.append(UnsafeRawBufferPointer(rebasing: meta.readable[0..<metaLength]))
        for operation in operations {
            revision += 1
            operation.revision = revision
            history = History.hash(
                after: history, operation: operation.kind, block: operation.block, count: operation.count,
                sums: UnsafeRawBufferPointer(start: operation.sums, count: operation.sumCount * 8))
            (meta.base + sumOffset).copyMemory(from: operation.sums, byteCount: operation.sumCount * 8)
            sumOffset += operation.sumCount * 8
            let durable: JournalPiece.Flags = operation.isDurable ? .durable : []
            // The ring block of the operation's first journalled block; the others follow in order.
            places.append(firstPayload + UInt64(nextPayload))
            if operation.kind != .write {
                JournalPiece(
                    revision: revision, operation: operation.kind, flags: [.last, durable],
                    firstPayload: UInt32(nextPayload), block: operation.block, count: operation.count
                ).encode(into: meta.bytes, at: pieceOffset)
                pieceOffset += JournalPiece.byteCount
                if operation.kind == .snapshot {
                    parts.append(operation.parts[0])
                    nextPayload += 1
                }
                continue
            }
            for (index, piece) in operation.pieces.enumerated() {
                var flags = durable
                if piece.isDirect { flags.insert(.direct) }
                if index == operation.pieces.count - 1 { flags.insert(.last) }
                JournalPiece(
                    revision: revision, operation: .write, flags: flags, firstPayload: UInt32(nextPayload),
                    block: operation.block + UInt64(piece.start), count: UInt64(piece.count)
                ).encode(into: meta.bytes, at: pieceOffset)
                pieceOffset += JournalPiece.byteCount
                if !piece.isDirect {
                    operation.forEachStretch(start: piece.start, count: piece.count) { parts.append($0) }
                    nextPayload += piece.count
                }
            }
        }
        invariant(nextPayload == payload && sumOffset == metaBytes, "a batch of \(sumOffset) bytes, not \(metaBytes)")
        var batch = header(
            [], metaBytes: metaBytes, pieces: pieceCount, payload: payload, at: end, first: end.revision + 1,
            last: revision, flushed: flushed)
        batch.seal(meta.bytes)
        var failure: IOError?
        parts.withUnsafeBufferPointer { buffer in
            do throws(IOError) {
                try file.write(parts: buffer, at: end.position % capacity * blockSize64)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return Boundary(
            revision: revision, historyHash: history, position: end.position + UInt64(batch.blockCount),
            sequence: end.sequence + 1, previousHash: batch.hash)
    }

    /// Marks every record behind `revision` void, after a recovery that rolled back to it.
    ///
    /// 1. Write a batch with the flag CUT whose first revision is the next one. A crash leaves the same roll-back to do.
    /// 2. fdatasync. The records behind `revision` never come to life again.
    func cut(to revision: UInt64, historyHash: Hash128) throws(IOError) {
        var end = state.withLock { $0.end }
        end.revision = revision
        end.historyHash = historyHash
        var batch = header(
            .cut, metaBytes: JournalBatch.headerBytes, pieces: 0, payload: 0, at: end, first: revision + 1,
            last: revision, flushed: revision)
        batch.seal(meta.bytes)
        try file.write(
            UnsafeRawBufferPointer(rebasing: meta.readable[0..<blockSize]), at: end.position % capacity * blockSize64)
        try file.syncData()
        let next = Boundary(
            revision: revision, historyHash: historyHash, position: end.position + 1, sequence: end.sequence + 1,
            previousHash: batch.hash)
        state.withLock {
            $0.end = next
            $0.flushed = max($0.flushed, revision)
        }
    }

    // MARK: Flushing

    /// Returns when everything written before the call is durable. One thread flushes, the others wait for it.
    ///
    /// 1. fdatasync of each image with direct writes. A crash leaves blocks that no durable record names.
    /// 2. fdatasync of the journal. From here on the records, and with them the direct blocks, are found.
    func flush() throws(StoreError) {
        let target = state.withLock { $0.end.revision }
        try flush(upTo: target)
    }

    func flush(upTo revision: UInt64) throws(StoreError) {
        while true {
            let role = try state.wait { state throws(StoreError) -> UInt64? in
                if let failure = state.failure { throw failure }
                if state.flushed >= revision { return 0 }
                if state.isFlushing { return nil }
                state.isFlushing = true
                return state.end.revision
            }
            if role == 0 { return }
            var failure: IOError?
            do throws(IOError) {
                try owner.flushImages()
                try file.syncData()
            } catch {
                failure = error
            }
            if let failure { owner.fail(failure, revision) }
            state.withLock { state in
                state.isFlushing = false
                if failure == nil { state.flushed = max(state.flushed, role) }
            }
            state.wakeAll()
            if let failure { throw .io(failure) }
        }
    }

    // MARK: Room

    /// Gives the ring's blocks before `position` free: a checkpoint has made them superfluous, durably.
    func release(to position: UInt64) {
        state.withLock { state in
            invariant(position >= state.tail && position <= state.end.position, "a tail at \(position)")
            state.tail = position
        }
        state.wakeAll()
    }

    /// Moves the end on without a record: a change of the chain that the super block has committed.
    func advance(to revision: UInt64, historyHash: Hash128) {
        state.withLock { state in
            state.end.revision = revision
            state.end.historyHash = historyHash
            state.flushed = max(state.flushed, revision)
        }
    }

    func setFull(_ isFull: Bool) {
        state.withLock { $0.isFull = isFull }
        state.wakeAll()
    }

    /// From here on every request throws `error`.
    func stop(_ error: StoreError) {
        state.withLock { if $0.failure == nil { $0.failure = error } }
        state.wakeAll()
    }
}

/// A batch is closed at this many payload blocks, unless one operation alone has more.
private let batchPayloadSoftLimit = 256
/// Blocks of the ring that stay free, so that a recovery finds room for its cut and a wrap.
private let ringReserveBlocks: UInt64 = 4
