internal import Format
public import HostIO
internal import Primitives

extension Replica {
    /// Opens a replica, takes over what its journal holds, and starts its threads.
    ///
    /// 1. Lock. Another process that has it open is refused here.
    /// 2. Super block, chain document, layer files.
    /// 3. If it was not closed in order: fsync of everything that the journal may name, then `Recovery`.
    /// 4. If records were rolled back: a CUT batch, durable, so that they never come to life again.
    /// 5. Holes that a crash filled are punched: bytes of direct writes whose records are gone.
    /// 6. Super block without CLEAN: from here on it is in use. Files that nothing names are removed.
    /// - Throws: `notFound`, `inUse`, `unsupportedFormat`, `damagedMetadata`, `io`.
    public static func open(
        in directory: any Directory, readOnly: Bool, host: any Host
    ) throws(StoreError) -> Replica {
        let startNs = host.monotonicNs()
        // A foreign directory is told before anything in it is locked.
        _ = try SuperStore.open(in: directory, access: .readOnly)
        let lock = try takeLock(directory, readOnly: readOnly)
        let access: FileAccess = readOnly ? .readOnly : .readWrite
        let superStore = try SuperStore.open(in: directory, access: access)
        let slot = superStore.current
        let layersDirectory: any Directory
        do throws(IOError) {
            layersDirectory = try directory.openDirectory(ReplicaFiles.layers)
        } catch {
            throw .damagedMetadata(path: directory.path, what: "the layers are missing: \(error)")
        }
        let chain = ChainStore(directory: directory, layers: layersDirectory)
        let (document, chainRemarks) = try chain.read(slot.chainNumber, hash: slot.chainHash)
        guard document.volume == slot.volume.description, document.head == slot.headLayer.description,
            document.size == slot.volumeSize
        else {
            throw .damagedMetadata(path: directory.path, what: "super block and chain document do not belong together")
        }

        var sealed: [Identifier: Layer] = [:]
        var head: Layer?
        for entry in document.layers {
            guard let identifier = Identifier(entry.uuid), let root = UInt64(entry.root, radix: 16) else {
                invariantFailed("a chain document that was not checked")
            }
            do throws(IOError) {
                let files = try chain.openLayer(identifier, access: access)
                if entry.uuid == document.head {
                    head = Layer(files: files, root: slot.headRoot)
                } else {
                    sealed[identifier] = Layer(files: files, root: root)
                }
            } catch {
                throw .damagedMetadata(
                    path: layersDirectory.path, what: "a layer of the chain cannot be opened: \(error)")
            }
        }
        guard let head else { invariantFailed("a chain without its head") }

        let journalFile = try calling { () throws(IOError) in try directory.open(ReplicaFiles.journal, access) }
        let journalSize = try calling { () throws(IOError) in try journalFile.size() }
        guard journalSize == slot.journalSize else {
            throw .damagedMetadata(path: journalFile.path, what: "it has \(journalSize) bytes, not \(slot.journalSize)")
        }
        if !slot.flags.contains(.clean) && !readOnly {
            try calling { () throws(IOError) in
                try journalFile.sync()
                try head.files.image.sync()
                try head.files.sums.sync()
            }
        }

        let hasher = BlockHasher(volume: slot.volume)
        var recovery: Recovery
        if slot.flags.contains(.clean) {
            recovery = cleanStart(slot, head)
        } else {
            recovery = try Recovery.run(
                super: slot, head: head, journal: journalFile, chain: chain, access: access, hasher: hasher)
        }
        recovery.report.remarks = superStore.remarks + chainRemarks + recovery.report.remarks
        if let failure = slot.failure, slot.flags.contains(.failed) {
            recovery.report.remarks.append(
                "it had stopped at revision \(failure.revision): \(failure.text); what was flushed is whole")
        }
        recovery.report.elapsedNs = host.monotonicNs() - startNs

        let state = State(
            tiers: recovery.tiers, tierFiles: recovery.tiers.map { $0.layer.files }, base: ChainView(layers: []),
            sealed: sealed, document: document, size: slot.volumeSize, boundary: recovery.boundary,
            isFull: slot.flags.contains(.full), lastWriteNs: host.monotonicNs())
        let replica = Replica(
            host: host, directory: directory, chain: chain, superStore: superStore, lockFile: lock, state: state,
            isReadOnly: readOnly, recovery: recovery.report)
        replica.state.withLock { state in
            let parent = document.layers.first { $0.uuid == document.head }?.parent
            state.base = ChainView(
                layers: parent.flatMap { Identifier($0) }.flatMap { ancestry(of: $0, state) } ?? [])
        }
        replica.start(journal: journalFile, slot: slot, recovery: recovery)
        if !readOnly {
            do throws(StoreError) {
                try replica.beginUse(slot: slot, recovery: recovery, chainIsDamaged: !chainRemarks.isEmpty)
            } catch {
                replica.journal.stop(.closed)
                throw error
            }
            replica.startThreads()
        }
        return replica
    }

    private static func takeLock(_ directory: any Directory, readOnly: Bool) throws(StoreError) -> (any File)? {
        do throws(IOError) {
            let file: any File
            do throws(IOError) {
                file = try directory.open(ReplicaFiles.lock, .readWrite)
            } catch {
                // A reader of a directory that it may not write cannot lock; a missing file is made again.
                if readOnly && !error.isNotFound { return nil }
                guard error.isNotFound, !readOnly else { if readOnly { return nil } else { throw error } }
                file = try directory.open(ReplicaFiles.lock, .create)
            }
            try file.lock()
            return file
        } catch {
            if error.isBusy { throw .inUse("\(directory.path) is in use by another process") }
            throw .io(error)
        }
    }

    private static func cleanStart(_ slot: SuperSlot, _ head: Layer) -> Recovery {
        let boundary = Boundary(
            revision: slot.checkpointRevision, historyHash: slot.historyHash,
            position: slot.tailOffset / blockSize64, sequence: slot.tailSequence, previousHash: slot.previousBatchHash)
        return Recovery(
            tiers: [Tier(layer: head, present: slot.headPresent)], boundary: boundary, flushed: slot.checkpointRevision,
            tail: boundary.position,
            report: RecoveryReport(
                outcome: .clean, revision: boundary.revision, flushedRevision: boundary.revision,
                generation: slot.generation, historyHash: boundary.historyHash))
    }

    private func start(journal file: any File, slot: SuperSlot, recovery: Recovery) {
        adopt(
            Journal(
                file: file, capacity: slot.journalSize / blockSize64, replica: slot.replica,
                generation: slot.generation, salt: host.random64(), end: recovery.boundary, tail: recovery.tail,
                flushed: recovery.flushed,
                owner: Journal.Owner(
                    publish: { [unowned self] operations, places, end in self.publish(operations, places, end) },
                    wantRoom: { [unowned self] in self.makeJournalRoom() },
                    canWait: { [unowned self] in self.background.hasThreads },
                    flushImages: { [unowned self] () throws(IOError) in try self.flushImages() },
                    fail: { [unowned self] error, revision in self.fail(error, revision: revision) })))
    }

    /// Makes the directory fit for writing again after a crash, and marks it as in use.
    private func beginUse(slot: SuperSlot, recovery: Recovery, chainIsDamaged: Bool) throws(StoreError) {
        do throws(IOError) {
            if recovery.needsCut {
                try journal.cut(to: recovery.boundary.revision, historyHash: recovery.boundary.historyHash)
                let end = journal.end
                state.withLock { $0.boundary = end }
            }
            if !slot.flags.contains(.clean) {
                for tier in recovery.tiers {
                    tier.hasUnflushedDirect = true
                    try sweep(tier)
                }
            }
            let document = state.withLock { $0.document }
            try superStore.commit { slot in
                slot.flags.remove(.clean)
                slot.flags.remove(.failed)
                slot.failure = nil
            }
            if chainIsDamaged { _ = try chain.write(document) }
            var known = Set(document.layers.compactMap { Identifier($0.uuid) })
            for identifier in recovery.journalLayers { known.insert(identifier) }
            for orphan in try chain.orphans(known: known, chainNumber: slot.chainNumber) {
                try orphan.directory.remove(orphan.name)
            }
        } catch {
            throw error.isNoSpace ? .noSpace(error) : .io(error)
        }
        // A reserve that an earlier full disk took is given back as soon as there is room.
        let ballast = try? directory.open(ReplicaFiles.ballast, .readWrite)
        if ((try? ballast?.allocated()) ?? 0) < slot.ballastSize {
            state.withLock { $0.isFull = true }
            if !regainReserve() { journal.setFull(true) }
        } else {
            state.withLock { $0.isFull = false }
        }
    }

    /// Punches what lies in a head's image although neither its map nor a record names it.
    ///
    /// A direct write whose record was lost leaves bytes in a hole. They are never served, but a reader that goes by
    /// SEEK_DATA would take them for content.
    private func sweep(_ tier: Tier) throws(IOError) {
        let image = tier.layer.files.image
        let limit = size
        var offset: UInt64 = 0
        while offset < limit, let data = try image.nextData(from: offset), data < limit {
            let hole = try image.nextHole(from: data) ?? limit
            var block = data / blockSize64
            let end = (min(hole, limit) + blockSize64 - 1) / blockSize64
            while block < end {
                let leaf = MapGeometry.leaf(of: block)
                let page = tier.layer.leafOrLost(leaf)
                let first = MapGeometry.firstBlock(ofLeaf: leaf)
                let last = min(end, first + MapGeometry.entries64)
                var start: UInt64?
                while block < last {
                    let entry = tier.record(of: block)
                    let isNamed =
                        entry?.place == .direct || (entry == nil && page.entries[Int(block - first)] != 0)
                        || (entry != nil && page.entries[Int(block - first)] != 0)
                    if isNamed, let from = start {
                        try image.punch(offset: from * blockSize64, count: (block - from) * blockSize64)
                        start = nil
                    } else if !isNamed && start == nil {
                        start = block
                    }
                    block += 1
                }
                if let from = start { try image.punch(offset: from * blockSize64, count: (last - from) * blockSize64) }
            }
            offset = hole
        }
    }

    // MARK: Threads

    private func startThreads() {
        let background = self.background
        background.setThreads()
        background.started()
        let works = host.startThread(name: "rs-maintain") { [weak self] in
            while background.waitForWork() {
                guard let replica = self else { break }
                replica.maintain()
            }
            background.ended()
        }
        if !works {
            background.ended()
            background.clearThreads()
            return
        }
        background.started()
        let flushes = host.startThread(name: "rs-flush") { [weak self] in
            while background.waitForFlush() {
                guard let replica = self else { break }
                // A failure has stopped the replica already.
                try? replica.flush()
            }
            background.ended()
        }
        if !flushes { background.ended() }
        background.wake()
    }

    /// The journal is short of room.
    private func makeJournalRoom() {
        if background.hasThreads {
            background.wake()
        } else if lane.tryEnter("checkpoint") {
            defer { lane.leave() }
            _ = try? checkpoint()
        }
    }

    /// What is due in the background: a checkpoint, the reserve, merges. Without threads, callers call it themselves.
    public func maintain() {
        let now = host.monotonicNs()
        let (isDue, isFull) = state.withLock { state -> (Bool, Bool) in
            if state.isClosed || state.failure != nil { return (false, false) }
            var direct: UInt64 = 0
            var ranges = 0
            var isPending = state.tiers.count > 1
            for tier in state.tiers {
                direct += tier.active.directCount
                ranges += tier.active.ranges.count
                // A write may have come after `now` was read, so the difference could be negative.
                if !tier.isDrained { isPending = isPending || now >= state.lastWriteNs + idleCheckpointNs }
            }
            let wantsRoom = state.emptiedBlocks >= emptiedBlocksLimit || state.isFull && state.emptiedBlocks > 0
            return (isPending || wantsRoom || direct >= directBlocksLimit || ranges >= rangesLimit, state.isFull)
        }
        if isDue || journal.isHalfFull {
            try? withLane("checkpoint") { () throws(StoreError) in
                _ = try checkpoint()
                try sealAll()
            }
        }
        if isFull { _ = regainReserve() }
        if state.withLock({ $0.failure == nil && !$0.isClosed && $0.document.layers.contains { $0.removed } }) {
            try? resumeMerges()
        }
    }

    /// Does everything that is pending now: drains the journal and finishes merges.
    public func settle() throws(StoreError) {
        try withLane("checkpoint") { () throws(StoreError) in
            _ = try checkpoint()
            try sealAll()
        }
        try resumeMerges()
    }

    // MARK: Close

    /// Drains the journal, marks the replica clean and gives it free.
    ///
    /// 1. Keep new writes out; wait for those under way; flush. Everything acknowledged is durable.
    /// 2. Checkpoint until the journal is empty. On a full disk this may fail: then the replica stays as after a
    ///    crash, with everything in the journal.
    /// 3. Super block with CLEAN.
    /// - Returns: whether the layers are the whole truth now.
    @discardableResult
    public func close() throws(StoreError) -> Bool {
        if isReadOnly {
            journal.stop(.closed)
            state.withLock { $0.isClosed = true }
            lockFile.withLock { $0 = nil }
            return true
        }
        if state.withLock({ $0.isClosed }) { return true }
        state.withLock { $0.isClosing = true }
        if background.hasThreads { background.stop() }
        var isDrained = false
        var failure: StoreError?
        do throws(StoreError) {
            isDrained = try barringWrites { () throws(StoreError) -> Bool in
                try journal.flush()
                return try withLane("close") { () throws(StoreError) -> Bool in
                    do throws(StoreError) {
                        try sealAll()
                        _ = try checkpoint()
                    } catch {
                        if case .noSpace = error { return false }
                        throw error
                    }
                    do throws(IOError) {
                        let layer = state.withLock { $0.tiers[0].layer }
                        try layer.files.sums.syncData()
                        let end = journal.end
                        try superStore.commit { slot in
                            slot.flags.insert(.clean)
                            slot.flags.remove(.full)
                            slot.checkpointRevision = end.revision
                            slot.historyHash = end.historyHash
                            slot.tailOffset = end.position % self.journal.capacity * blockSize64
                            slot.tailSequence = end.sequence
                            slot.previousBatchHash = end.previousHash
                            slot.flushedRevision = end.revision
                            slot.groupFlushedRevision = end.revision
                        }
                    } catch {
                        throw storeError(error)
                    }
                    return true
                }
            }
        } catch {
            failure = error
        }
        state.withLock { $0.isClosed = true }
        journal.stop(.closed)
        state.wakeAll()
        lockFile.withLock { $0 = nil }
        if let failure { throw failure }
        return isDrained
    }

    /// Whether it was closed.
    public var isClosed: Bool { state.withLock { $0.isClosed } }
}

/// 30 s without a write: then the journal is drained, so that the layers are the whole truth.
private let idleCheckpointNs: UInt64 = 30_000_000_000
/// 512 MiB of blocks that only the journal names.
private let directBlocksLimit: UInt64 = 131_072
/// Emptied ranges that wait for a checkpoint.
private let rangesLimit = 4096
