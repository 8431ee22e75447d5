internal import Format
internal import HostIO
internal import Primitives

extension Replica {
    /// Writes whole blocks, as the context's operation describes; its sums are filled in here.
    ///
    /// 1. Large runs of blocks that neither the durable map nor any record holds go into the head's image at once.
    ///    A crash leaves bytes that nothing names.
    /// 2. The record, with the bytes of all other blocks, goes into the journal. A kill after that loses nothing.
    /// 3. It is published: reads see it.
    /// 4. If the write is to be durable: flush. A power cut after that loses nothing.
    public func write(_ context: IOContext) throws(StoreError) {
        try checkWritable()
        let operation = context.operation
        invariant(
            operation.count > 0 && operation.count <= UInt64(FormatLimit.operationBlocks), "\(operation.count) blocks")
        operation.sumCount = Int(operation.count)
        for index in 0..<operation.sumCount {
            operation.sums[index] = hasher.sum(operation.bytes(ofBlock: index), block: operation.block + UInt64(index))
        }
        try beginWrite(operation)
        do throws(StoreError) {
            try writeDirect(operation)
            try journal.append(operation)
        } catch {
            endWrite()
            throw error
        }
        if operation.isDurable { try journal.flush(upTo: operation.revision) }
    }

    /// Records that the blocks read as zeros from here on.
    public func empty(_ context: IOContext) throws(StoreError) {
        try checkWritable()
        let operation = context.operation
        try beginChange()
        do throws(StoreError) {
            try journal.append(operation)
        } catch {
            endWrite()
            throw error
        }
        if operation.isDurable { try journal.flush(upTo: operation.revision) }
        // What is emptied gives its space back with the next checkpoint. Until then its blocks count as recorded, too,
        // so that new data there is written twice.
        let isDue = state.withLock { state -> Bool in
            state.emptiedBlocks += operation.count
            return state.emptiedBlocks >= emptiedBlocksLimit || state.isFull
        }
        if isDue { background.wake() }
    }

    private func beginChange() throws(StoreError) {
        try state.wait { state throws(StoreError) -> Void? in
            try Self.checkOpen(state)
            if state.isBarred { return nil }
            state.inFlight += 1
            return ()
        }
    }

    private static func checkOpen(_ state: State) throws(StoreError) {
        if state.isClosed { throw .closed }
        if let failure = state.failure { throw .replicaFailed(failure.text) }
    }

    private func endWrite() {
        let wakes = state.withLock { state -> Bool in
            state.inFlight -= 1
            return state.isBarred && state.inFlight == 0
        }
        if wakes { state.wakeAll() }
    }

    /// Decides which runs go direct, and counts the write as under way.
    private func beginWrite(_ operation: WriteOperation) throws(StoreError) {
        while true {
            enum Step { case ready, load(Tier, UInt64, UInt64), leaf(ChainView, UInt64), full }
            let step = try state.wait { state throws(StoreError) -> Step? in
                try Self.checkOpen(state)
                if state.isBarred { return nil }
                operation.pieces.removeAll(keepingCapacity: true)
                let count = Int(operation.count)
                if count < directRunMin && !state.isFull {
                    operation.pieces.append(WriteOperation.Piece(start: 0, count: count, isDirect: false))
                    state.inFlight += 1
                    return .ready
                }
                let head = state.tiers[state.tiers.count - 1]
                let lastLeaf = MapGeometry.leaf(of: operation.block + operation.count - 1)
                for leaf in MapGeometry.leaf(of: operation.block)...lastLeaf {
                    if head.cachedPage(leaf) == nil { return .load(head, leaf, head.version) }
                    if state.mergeSource != nil && state.base.cachedLeaf(leaf) == nil { return .leaf(state.base, leaf) }
                }
                if self.split(operation, state, head) && state.isFull { return .full }
                state.inFlight += 1
                return .ready
            }
            switch step {
            case .ready: return
            case .load(let tier, let leaf, let version): load(tier, leaf, version: version)
            case .leaf(let view, let leaf): _ = view.leaf(leaf)
            case .full:
                try makeRoomOnFullDisk()
            }
        }
    }

    /// Fills the operation's pieces; true if any of its blocks needs room that the head's image does not have yet.
    private func split(_ operation: WriteOperation, _ state: State, _ head: Tier) -> Bool {
        let count = Int(operation.count)
        // While a layer merges into the head, its blocks are on their way here and count as present (its copy of a
        // block must never be overwritten by bytes whose record a crash may undo).
        // It is the top of the view below, until its last step has taken it out.
        var mergingOwner: UInt16?
        if let source = state.mergeSource, state.base.layers.last?.identifier == source {
            mergingOwner = UInt16(state.base.layers.count - 1)
        }
        var needsRoom = false
        var runStart = 0
        var runIsDirect = false
        var isFirst = true
        func close(at end: Int) {
            let length = end - runStart
            if length == 0 { return }
            let isDirect = runIsDirect && length >= directRunMin
            // A short eligible run joins the journalled ones beside it.
            if !isDirect, let last = operation.pieces.last, !last.isDirect {
                operation.pieces[operation.pieces.count - 1].count += length
            } else {
                operation.pieces.append(WriteOperation.Piece(start: runStart, count: length, isDirect: isDirect))
            }
        }
        forEachLeaf(block: operation.block, count: count) { leaf, first, position, length in
            guard let page = head.cachedPage(leaf) else { invariantFailed("page \(leaf) is gone") }
            let below = mergingOwner == nil ? nil : state.base.cachedLeaf(leaf)
            for index in 0..<length {
                var isEligible = page.entries[first + index] == 0
                if isEligible { needsRoom = true }
                if isEligible && head.record(of: operation.block + UInt64(position + index)) != nil {
                    isEligible = false
                }
                if isEligible, let below, below.sums[first + index] != 0, below.owners[first + index] == mergingOwner {
                    isEligible = false
                }
                if isFirst || isEligible != runIsDirect {
                    close(at: position + index)
                    runStart = position + index
                    runIsDirect = isEligible
                    isFirst = false
                }
            }
        }
        close(at: count)
        return needsRoom
    }

    private func writeDirect(_ operation: WriteOperation) throws(StoreError) {
        var target: LayerFiles?
        for piece in operation.pieces where piece.isDirect {
            let files = target ?? state.withLock { $0.tierFiles[$0.tierFiles.count - 1] }
            target = files
            var offset = (operation.block + UInt64(piece.start)) * blockSize64
            var failure: IOError?
            operation.forEachStretch(start: piece.start, count: piece.count) { bytes in
                if failure != nil { return }
                do throws(IOError) { try files.image.write(bytes, at: offset) } catch { failure = error }
                offset += UInt64(bytes.count)
            }
            if let failure {
                if failure.isNoSpace { throw .noSpace(failure) }
                fail(failure, revision: journal.end.revision + 1)
                throw .io(failure)
            }
        }
    }

    /// Takes over the records of a batch. Called by the journal's leader, before anybody is told.
    func publish(_ operations: [WriteOperation], _ places: [UInt64], _ end: Boundary) {
        var wakesWaiters = false
        var wakesFlusher = false
        state.withLock { state in
            for (index, operation) in operations.enumerated() {
                let head = state.tiers[state.tiers.count - 1]
                switch operation.kind {
                case .write:
                    var ring = places[index]
                    for piece in operation.pieces {
                        let first = operation.block + UInt64(piece.start)
                        if piece.isDirect { head.hasUnflushedDirect = true }
                        for offset in 0..<piece.count {
                            let sum = operation.sums[piece.start + offset]
                            head.active.insert(first + UInt64(offset), piece.isDirect ? .direct : .ring(ring), sum: sum)
                            if !piece.isDirect { ring += 1 }
                        }
                        let bytes = UInt64(piece.count) * blockSize64
                        if piece.isDirect {
                            state.counters.directBytes += bytes
                            // Direct bytes weigh an eighth: their limit is 64 MiB where the journal's is 8.
                            state.unflushedBytes += bytes / 8
                        } else {
                            state.counters.journalBytes += bytes
                            state.unflushedBytes += bytes
                        }
                    }
                    state.inFlight -= 1
                case .zero, .discard:
                    head.active.empty(BlockRange(start: operation.block, count: operation.count))
                    state.inFlight -= 1
                case .snapshot:
                    guard let record = operation.snapshot, let files = operation.newHead else {
                        invariantFailed("a snapshot without its record")
                    }
                    head.seal = Tier.Seal(
                        record: record, revision: operation.revision, historyHash: end.historyHash, size: state.size)
                    state.tiers.append(Tier(layer: Layer(files: files, root: 0), present: 0))
                    state.tierFiles.append(files)
                    state.snapshotVersion += 1
                }
            }
            state.boundary = end
            state.lastWriteNs = host.monotonicNs()
            wakesWaiters = state.isBarred && state.inFlight == 0
            if state.unflushedBytes >= unflushedLimit {
                state.unflushedBytes = 0
                wakesFlusher = true
            }
        }
        if wakesWaiters { state.wakeAll() }
        if wakesFlusher { background.wakeFlusher() }
        if journal.isHalfFull { background.wake() }
    }

    /// fdatasync of every image with direct writes that no flush has covered.
    func flushImages() throws(IOError) {
        let files = state.withLock { state -> [LayerFiles] in
            state.unflushedBytes = 0
            var found: [LayerFiles] = []
            for tier in state.tiers where tier.hasUnflushedDirect {
                tier.hasUnflushedDirect = false
                found.append(tier.layer.files)
            }
            return found
        }
        for file in files { try file.image.syncData() }
    }

    /// Everything acknowledged before is durable when it returns.
    public func flush() throws(StoreError) {
        if isReadOnly { return }
        try state.withLock { state throws(StoreError) in try Self.checkOpen(state) }
        try journal.flush()
    }

    /// Lets discards that wait in the journal free their space, and takes the reserve back if that was enough.
    /// - Throws: `noSpace` if it was not.
    func makeRoomOnFullDisk() throws(StoreError) {
        if regainReserve() { return }
        if state.withLock({ $0.emptiedBlocks > 0 }) {
            try withLane("checkpoint") { () throws(StoreError) in _ = try checkpoint() }
            if regainReserve() { return }
        }
        throw .noSpace(nil)
    }

    /// Gets the reserve back if the file system has room for it again; true if writes may go on.
    func regainReserve() -> Bool {
        let slot = superStore.current
        let margin = slot.ballastSize / 8 + fullMargin
        guard let space = try? directory.space(), space.available >= slot.ballastSize + margin else { return false }
        do throws(IOError) {
            let ballast = try directory.open(ReplicaFiles.ballast, .readWrite)
            try ballast.truncate(to: slot.ballastSize)
            try ballast.reserve(offset: 0, count: slot.ballastSize)
        } catch {
            return false
        }
        state.withLock { $0.isFull = false }
        journal.setFull(false)
        background.wake()
        return true
    }
}

/// 64 KiB: the shortest run that is written straight into the image.
private let directRunMin = 16
/// Emptied blocks (16 MiB) that make the next checkpoint come soon.
let emptiedBlocksLimit: UInt64 = 4096
/// Unflushed bytes of the journal after which a flush starts in the background.
private let unflushedLimit: UInt64 = 8 << 20
/// Bytes beside the reserve that must be free before writes go on after a full disk.
private let fullMargin: UInt64 = 1 << 20
