internal import Format
internal import HostIO
internal import Primitives

extension Replica {
    // MARK: Create

    /// Takes a snapshot of everything acknowledged before.
    ///
    /// 1. Make the files of the new head; fsync them and their directory. A crash leaves files that nothing names.
    /// 2. Keep new writes out, wait for those under way, and append the SNAPSHOT record. A crash leaves the record in
    ///    the unflushed part of the journal: the snapshot is there or not, whole either way.
    /// 3. Flush. The snapshot exists. The old head drains in the background while new writes go on.
    /// - Throws: `invalid` for a bad name, `exists`, `noSpace`, `refused` for too many layers, `io`.
    public func createSnapshot(name: String, labels: [String: String]) throws(StoreError) -> SnapshotInfo {
        try checkWritable()
        if let fault = SnapshotName.fault(name) { throw .invalid(fault) }
        var labelBytes = 0
        for (key, value) in labels { labelBytes += key.utf8.count + value.utf8.count + 8 }
        if labelBytes > FormatLimit.labelBytes {
            throw .invalid("the labels have \(labelBytes) bytes; \(FormatLimit.labelBytes) are allowed")
        }
        try reserveName(name)
        defer { state.withLock { _ = $0.reservedNames.remove(name) } }
        // Each head that drains costs a lookup; so many may stand before a snapshot waits for them.
        if state.withLock({ $0.tiers.count }) > pendingTierLimit {
            try withLane("checkpoint") { () throws(StoreError) in _ = try checkpoint() }
        }
        if state.withLock({ $0.isFull }) { try makeRoomOnFullDisk() }

        let identifier = host.newIdentifier()
        let files: LayerFiles
        do throws(IOError) {
            files = try chain.createLayer(identifier, size: size)
        } catch {
            chain.removeLayer(identifier)
            if error.isNoSpace { throw .noSpace(error) }
            throw .io(error)
        }
        let now = host.wallClock()
        let record = SnapshotRecord(
            name: name, createdSeconds: now.seconds, createdNanoseconds: now.nanoseconds, labels: labels,
            newHead: identifier.description)
        let operation = WriteOperation()
        let payload = ByteBuffer(count: blockSize)
        invariant(record.encode(into: payload.bytes), "a snapshot record over one block")
        operation.reset(.snapshot, block: 0, count: 0, isDurable: true)
        operation.parts[0] = payload.readable
        operation.partCount = 1
        operation.sums[0] = hasher.sum(payload.base, block: 0)
        operation.sumCount = 1
        operation.snapshot = record
        operation.newHead = files
        do throws(StoreError) {
            try barringWrites { () throws(StoreError) in try journal.append(operation) }
        } catch {
            chain.removeLayer(identifier)
            throw error
        }
        try journal.flush(upTo: operation.revision)
        background.wake()
        guard let info = snapshots().first(where: { $0.name == name }) else { throw .notFound("snapshot \(name)") }
        return info
    }

    private func reserveName(_ name: String) throws(StoreError) {
        try state.withLock { state throws(StoreError) in
            if state.isClosed { throw .closed }
            if let failure = state.failure { throw .replicaFailed(failure.text) }
            if state.reservedNames.contains(name) || Self.names(state).contains(name) {
                throw .exists("snapshot '\(name)'")
            }
            if state.document.layers.count + state.tiers.count >= FormatLimit.layers {
                throw .refused(
                    "the replica has \(FormatLimit.layers) layers, the most it can have; delete snapshots first")
            }
            state.reservedNames.insert(name)
        }
    }

    private static func names(_ state: State) -> Set<String> {
        var names: Set<String> = []
        for layer in state.document.layers where !layer.removed {
            if let snapshot = layer.snapshot { names.insert(snapshot.name) }
        }
        for tier in state.tiers { if let seal = tier.seal { names.insert(seal.record.name) } }
        return names
    }

    // MARK: List

    /// All snapshots, oldest first.
    public func snapshots() -> [SnapshotInfo] {
        state.withLock { state in
            var byUUID: [String: ChainDocument.Layer] = [:]
            for layer in state.document.layers { byUUID[layer.uuid] = layer }
            // The nearest ancestor that is a snapshot still.
            func visible(_ uuid: String?) -> ChainDocument.Layer? {
                var next = uuid
                while let here = next, let layer = byUUID[here] {
                    if layer.snapshot != nil && !layer.removed { return layer }
                    next = layer.parent
                }
                return nil
            }
            var live: Set<String> = []
            var next: String? = state.tiers[0].layer.identifier.description
            while let uuid = next {
                live.insert(uuid)
                next = byUUID[uuid]?.parent
            }
            let oldestTier = byUUID[state.tiers[0].layer.identifier.description]
            let headParent = visible(oldestTier?.parent)
            var result: [SnapshotInfo] = []
            for layer in state.document.layers {
                guard let snapshot = layer.snapshot, !layer.removed, let identifier = Identifier(layer.uuid) else {
                    continue
                }
                result.append(
                    SnapshotInfo(
                        name: snapshot.name, layer: identifier, parent: visible(layer.parent)?.snapshot?.name,
                        created: WallTime(
                            seconds: snapshot.createdSeconds, nanoseconds: snapshot.createdNanoseconds),
                        labels: snapshot.labels, isProtected: snapshot.protected, revision: snapshot.revision,
                        size: snapshot.size, isInLiveChain: live.contains(layer.uuid),
                        isHeadParent: layer.uuid == headParent?.uuid && state.tiers.count == 1))
            }
            var parent = headParent?.snapshot?.name
            for (index, tier) in state.tiers.enumerated() {
                guard let seal = tier.seal else { continue }
                result.append(
                    SnapshotInfo(
                        name: seal.record.name, layer: tier.layer.identifier, parent: parent,
                        created: WallTime(
                            seconds: seal.record.createdSeconds, nanoseconds: seal.record.createdNanoseconds),
                        labels: seal.record.labels, isProtected: false, revision: seal.revision, size: seal.size,
                        isInLiveChain: true, isHeadParent: index == state.tiers.count - 2))
                parent = seal.record.name
            }
            return result.sorted { $0.revision < $1.revision }
        }
    }

    /// Changes whenever the list of snapshots may have changed.
    public var snapshotVersion: UInt64 { state.withLock { $0.snapshotVersion } }

    // MARK: Change

    /// Runs in the lane with every snapshot sealed, so that the chain document tells all.
    func withSealedChain<Result>(
        _ work: String, _ body: () throws(StoreError) -> Result
    ) throws(StoreError) -> Result {
        try checkWritable()
        return try withLane(work) { () throws(StoreError) -> Result in
            try sealAll()
            return try body()
        }
    }

    /// Checkpoints until the live head is the only tier. In the lane.
    func sealAll() throws(StoreError) {
        while state.withLock({ $0.tiers.count > 1 || $0.frozen != nil }) { try checkpoint() }
    }

    /// The index in the document of the layer of a visible snapshot.
    func layerIndex(of name: String, in document: ChainDocument) throws(StoreError) -> Int {
        guard let index = document.layers.firstIndex(where: { $0.snapshot?.name == name && !$0.removed }) else {
            throw .notFound("snapshot '\(name)'")
        }
        return index
    }

    /// - Throws: `invalid`, `exists`, `notFound`, `readOnly`, `noSpace`, `io`.
    public func renameSnapshot(_ name: String, to newName: String) throws(StoreError) {
        if let fault = SnapshotName.fault(newName) { throw .invalid(fault) }
        try withSealedChain("rename") { () throws(StoreError) in
            var document = state.withLock { $0.document }
            let index = try layerIndex(of: name, in: document)
            let taken = state.withLock { Self.names($0).contains(newName) || $0.reservedNames.contains(newName) }
            if taken { throw .exists("snapshot '\(newName)'") }
            document.layers[index].snapshot?.name = newName
            try commit(document, isChanged: true) { _ in }
        }
    }

    /// A protected snapshot is not deleted until it is unprotected.
    public func setProtected(_ name: String, _ isProtected: Bool) throws(StoreError) {
        try withSealedChain("protect") { () throws(StoreError) in
            var document = state.withLock { $0.document }
            let index = try layerIndex(of: name, in: document)
            if document.layers[index].snapshot?.protected == isProtected { return }
            document.layers[index].snapshot?.protected = isProtected
            try commit(document, isChanged: true) { _ in }
        }
    }

    // MARK: Revert

    /// Makes the content that of the snapshot, at a new revision.
    ///
    /// 1. Keep writes out; drain the journal into the head.
    /// 2. Make the files of a new head on top of the snapshot, durable. A crash leaves files that nothing names.
    /// 3. Chain document and super block: the commit. A crash before it leaves the old content, after it the new one.
    /// 4. Remove the old head's files if it was not kept.
    /// - Parameter keepHead: the name under which the present content stays as a snapshot; nil discards it.
    public func revert(to name: String, keepHead: String?, labels: [String: String] = [:]) throws(StoreError) {
        try checkWritable()
        if let keepHead, let fault = SnapshotName.fault(keepHead) { throw .invalid(fault) }
        try barringWrites { () throws(StoreError) in
            try withSealedChain("revert") { () throws(StoreError) in
                _ = try checkpoint()
                var document = state.withLock { $0.document }
                let target = try layerIndex(of: name, in: document)
                guard let snapshot = document.layers[target].snapshot else { throw .notFound("snapshot '\(name)'") }
                if let keepHead,
                    state.withLock({ Self.names($0).contains(keepHead) || $0.reservedNames.contains(keepHead) })
                {
                    throw .exists("snapshot '\(keepHead)'")
                }
                if document.layers.count >= FormatLimit.layers {
                    throw .refused("the replica has \(FormatLimit.layers) layers; delete snapshots first")
                }
                let (oldHead, present, boundary) = state.withLock { state in
                    (state.tiers[0].layer, state.tiers[0].present, state.boundary)
                }
                let identifier = host.newIdentifier()
                let files: LayerFiles
                do throws(IOError) {
                    files = try chain.createLayer(identifier, size: snapshot.size)
                } catch {
                    chain.removeLayer(identifier)
                    throw storeError(error)
                }
                let now = host.wallClock()
                let oldUUID = oldHead.identifier.description
                guard let oldIndex = document.layers.firstIndex(where: { $0.uuid == oldUUID }) else {
                    invariantFailed("the head is not in the chain")
                }
                let targetUUID = document.layers[target].uuid
                if let keepHead {
                    document.layers[oldIndex].snapshot = ChainDocument.Snapshot(
                        name: keepHead, createdSeconds: now.seconds, createdNanoseconds: now.nanoseconds,
                        labels: labels, protected: false, revision: boundary.revision,
                        historyHash: boundary.historyHash.description, size: document.size)
                    document.layers[oldIndex].root = String(oldHead.root, radix: 16)
                    document.layers[oldIndex].present = present
                } else {
                    document.layers.remove(at: oldIndex)
                }
                document.layers.append(
                    ChainDocument.Layer(
                        uuid: identifier.description, parent: targetUUID, snapshot: nil, root: "0", present: 0,
                        removed: false))
                document.head = identifier.description
                document.size = snapshot.size
                let revision = boundary.revision + 1
                let history = History.hash(after: boundary.historyHash, change: "revert \(snapshot.historyHash)")
                let newSize = snapshot.size
                try commit(document, isChanged: true) { slot in
                    slot.checkpointRevision = revision
                    slot.historyHash = history
                    slot.flushedRevision = revision
                    slot.groupFlushedRevision = revision
                    slot.tailOffset = boundary.position % self.journal.capacity * blockSize64
                    slot.tailSequence = boundary.sequence
                    slot.previousBatchHash = boundary.previousHash
                    slot.headLayer = identifier
                    slot.headRoot = 0
                    slot.headPresent = 0
                    slot.volumeSize = newSize
                }
                state.withLock { state in
                    if keepHead != nil { state.sealed[oldHead.identifier] = oldHead }
                    state.tiers = [Tier(layer: Layer(files: files, root: 0), present: 0)]
                    state.tierFiles = [files]
                    let layers = Identifier(targetUUID).flatMap { Self.ancestry(of: $0, state) }
                    state.base = ChainView(layers: layers ?? [])
                    state.size = newSize
                    state.boundary.revision = revision
                    state.boundary.historyHash = history
                    state.snapshotVersion += 1
                }
                journal.release(to: boundary.position)
                journal.advance(to: revision, historyHash: history)
                if keepHead == nil { chain.removeLayer(oldHead.identifier) }
            }
        }
        background.wake()
    }

    // MARK: Resize

    /// Changes the volume's size. What a shrink cuts off is emptied first, so a later growth finds zeros.
    public func resize(to newSize: UInt64) throws(StoreError) {
        try checkWritable()
        guard newSize >= FormatLimit.volumeSizeMin, newSize <= FormatLimit.volumeSize, newSize % blockSize64 == 0 else {
            throw .invalid("a size of \(newSize) bytes: it must be a multiple of \(blockSize), at most 64 TiB")
        }
        try barringWrites { () throws(StoreError) in
            try withSealedChain("resize") { () throws(StoreError) in
                let oldSize = size
                if newSize == oldSize { return }
                if newSize < oldSize {
                    let operation = WriteOperation()
                    operation.reset(
                        .zero, block: newSize / blockSize64, count: (oldSize - newSize) / blockSize64, isDurable: true)
                    state.withLock { $0.inFlight += 1 }
                    do throws(StoreError) {
                        try journal.append(operation)
                    } catch {
                        state.withLock { $0.inFlight -= 1 }
                        throw error
                    }
                }
                _ = try checkpoint()
                var document = state.withLock { $0.document }
                document.size = newSize
                let (boundary, head) = state.withLock { ($0.boundary, $0.tiers[0].layer) }
                let revision = boundary.revision + 1
                let history = History.hash(after: boundary.historyHash, change: "resize \(newSize)")
                do throws(IOError) {
                    if try head.files.image.size() < newSize { try head.files.image.truncate(to: newSize) }
                    try head.files.image.sync()
                } catch {
                    throw storeError(error)
                }
                try commit(document, isChanged: true) { slot in
                    slot.volumeSize = newSize
                    slot.checkpointRevision = revision
                    slot.historyHash = history
                    slot.flushedRevision = revision
                    slot.groupFlushedRevision = revision
                    slot.tailOffset = boundary.position % self.journal.capacity * blockSize64
                    slot.tailSequence = boundary.sequence
                    slot.previousBatchHash = boundary.previousHash
                }
                state.withLock { state in
                    state.size = newSize
                    state.boundary.revision = revision
                    state.boundary.historyHash = history
                }
                journal.release(to: boundary.position)
                journal.advance(to: revision, historyHash: history)
            }
        }
    }
}

/// Heads that may drain at the same time before the next snapshot waits for them.
private let pendingTierLimit = 4
