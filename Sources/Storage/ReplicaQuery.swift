internal import Format
public import HostIO
public import Primitives

extension Replica {
    // MARK: Views of snapshots

    /// Opens the snapshot for reading: it is not deleted until `closeSnapshot`.
    public func openSnapshot(name: String) throws(StoreError) -> (target: Target, size: UInt64) {
        // A snapshot just taken still drains; its layer is read like any other afterwards.
        if state.withLock({ $0.tiers.contains { $0.seal?.record.name == name } }), !isReadOnly {
            try withLane("checkpoint") { () throws(StoreError) in try sealAll() }
        }
        return try state.withLock { state throws(StoreError) -> (Target, UInt64) in
            guard let layer = state.document.layers.first(where: { $0.snapshot?.name == name && !$0.removed }),
                let identifier = Identifier(layer.uuid), let snapshot = layer.snapshot
            else {
                if state.tiers.contains(where: { $0.seal?.record.name == name }) {
                    throw .refused("snapshot '\(name)' is in the journal only; open the volume for writing once")
                }
                throw .notFound("snapshot '\(name)'")
            }
            state.viewUsers[identifier, default: 0] += 1
            return (.layer(identifier), snapshot.size)
        }
    }

    /// Ends a use that `openSnapshot` began.
    public func closeSnapshot(_ target: Target) {
        guard case .layer(var identifier) = target else { return }
        state.withLock { state in
            while let next = state.moved[identifier] { identifier = next }
            let users = state.viewUsers[identifier, default: 0]
            if users > 1 {
                state.viewUsers[identifier] = users - 1
            } else {
                state.viewUsers[identifier] = nil
                state.views[identifier] = nil
            }
        }
    }

    // MARK: Runs

    /// Neighbouring blocks of the same origin.
    struct Run {
        var start: UInt64
        var count: UInt64
        /// nil where no layer holds anything.
        var owner: Owner?
        var isZero: Bool

        enum Owner: Hashable { case layer(Identifier) }
    }

    /// Calls `body` with the runs from `start` to `limit`, in order, without gaps, until it says false.
    func forEachRun(
        _ target: Target, from start: UInt64, limit: UInt64, _ body: (Run) throws(StoreError) -> Bool
    ) throws(StoreError) {
        let context = contexts.take()
        defer { contexts.give(context) }
        var block = start
        var pending: Run?
        func add(_ run: Run) throws(StoreError) -> Bool {
            if let last = pending {
                if last.owner == run.owner && last.isZero == run.isZero && last.start + last.count == run.start {
                    pending?.count += run.count
                    return true
                }
                pending = run
                return try body(last)
            }
            pending = run
            return true
        }
        while block < limit {
            let leaf = MapGeometry.leaf(of: block)
            let leafLimit = MapGeometry.leaf(of: limit - 1) + 1
            let next = try nextLeaf(target, from: leaf, limit: leafLimit)
            let data = next.map { max(block, MapGeometry.firstBlock(ofLeaf: $0)) } ?? limit
            if data > block {
                let end = min(data, limit)
                if try !add(Run(start: block, count: end - block, owner: nil, isZero: true)) { return }
                block = end
                continue
            }
            let end = min(limit, MapGeometry.firstBlock(ofLeaf: leaf + 1))
            let count = Int(min(end - block, UInt64(IOContext.blockLimit)))
            try resolve(target, block: block, count: count, context)
            for index in 0..<count {
                let number = block + UInt64(index)
                let place = context.places[index]
                var owner: Run.Owner?
                if place.isRing || place.isDamaged {
                    owner = .layer(context.tierFiles.last?.identifier ?? .zero)
                } else if place.isImage {
                    let below = context.view?.layers.count ?? 0
                    let source = Int(place.number)
                    let files = source < below ? context.view!.layers[source].files : context.tierFiles[source - below]
                    owner = .layer(files.identifier)
                }
                let isZero = place.isNowhere || context.sums[index] == hasher.sum(zeroBlock.base, block: number)
                if try !add(Run(start: number, count: 1, owner: owner, isZero: isZero)) { return }
            }
            block += UInt64(count)
        }
        if let last = pending { _ = try body(last) }
    }

    /// The first leaf at or behind `leaf` in which the target may hold anything.
    private func nextLeaf(_ target: Target, from leaf: UInt64, limit: UInt64) throws(StoreError) -> UInt64? {
        switch target {
        case .layer(let identifier): return try view(of: identifier).nextLeaf(from: leaf, limit: limit)
        case .head:
            let (layers, base, fromOverlays) = state.withLock { state -> ([Layer], ChainView, UInt64?) in
                var best: UInt64?
                for tier in state.tiers {
                    for overlay in [tier.active, tier.frozen] {
                        if let found = overlay?.nextLeaf(from: leaf), found < best ?? limit { best = found }
                    }
                }
                return (state.tiers.map { $0.layer }, state.base, best)
            }
            var best = fromOverlays
            for layer in layers {
                do throws(MapDamage) {
                    if let found = try layer.nextLeaf(from: leaf, limit: best ?? limit) { best = found }
                } catch {
                    return leaf
                }
            }
            if let found = base.nextLeaf(from: leaf, limit: best ?? limit) { best = found }
            return best
        }
    }

    /// The first byte at or behind `offset` that holds data (not zeros by the map); nil if there is none.
    public func nextData(_ target: Target, from offset: UInt64, size: UInt64) throws(StoreError) -> UInt64? {
        var found: UInt64?
        try forEachRun(target, from: offset / blockSize64, limit: size / blockSize64) { run in
            if run.isZero { return true }
            found = max(offset, run.start * blockSize64)
            return false
        }
        return found
    }

    /// The first byte at or behind `offset` that reads as zeros by the map; the size at the latest.
    public func nextHole(_ target: Target, from offset: UInt64, size: UInt64) throws(StoreError) -> UInt64 {
        var found: UInt64?
        try forEachRun(target, from: offset / blockSize64, limit: size / blockSize64) { run in
            if !run.isZero { return true }
            found = max(offset, run.start * blockSize64)
            return false
        }
        return found ?? size
    }

    /// Whole blocks of the range, with their origin.
    public func extents(
        _ target: Target, at offset: UInt64, length: UInt64, limit: Int
    ) throws(StoreError) -> [MapExtent] {
        let (depths, names) = origins(target)
        var result: [MapExtent] = []
        let end = offset + length
        try forEachRun(target, from: offset / blockSize64, limit: (end + blockSize64 - 1) / blockSize64) { run in
            let start = max(offset, run.start * blockSize64)
            let stop = min(end, (run.start + run.count) * blockSize64)
            var identifier: Identifier?
            if case .layer(let found)? = run.owner { identifier = found }
            result.append(
                MapExtent(
                    start: start, length: stop - start, depth: identifier.map { depths[$0] ?? 0 }, layer: identifier,
                    snapshot: identifier.flatMap { names[$0] }, isZero: run.isZero))
            return result.count < limit
        }
        return result
    }

    /// For each layer of a view: how far it lies below the top, and its snapshot's name.
    private func origins(_ target: Target) -> (depths: [Identifier: Int], names: [Identifier: String]) {
        state.withLock { state in
            var order: [Identifier] = []
            switch target {
            case .head:
                order = state.tiers.reversed().map { $0.layer.identifier }
                order += state.base.layers.reversed().map { $0.identifier }
            case .layer(let identifier):
                order = (Self.ancestry(of: identifier, state) ?? []).reversed().map { $0.identifier }
            }
            var depths: [Identifier: Int] = [:]
            for (depth, identifier) in order.enumerated() { depths[identifier] = depth }
            var names: [Identifier: String] = [:]
            for layer in state.document.layers {
                if let snapshot = layer.snapshot, !layer.removed, let identifier = Identifier(layer.uuid) {
                    names[identifier] = snapshot.name
                }
            }
            for tier in state.tiers { if let seal = tier.seal { names[tier.layer.identifier] = seal.record.name } }
            return (depths, names)
        }
    }

    /// Where two targets read differently.
    public func difference(
        from older: Target, _ olderSize: UInt64, to newer: Target, _ newerSize: UInt64
    ) throws(StoreError) -> [DiffExtent] {
        let first = contexts.take()
        let second = contexts.take()
        defer {
            contexts.give(first)
            contexts.give(second)
        }
        let size = max(olderSize, newerSize)
        let limit = size / blockSize64
        let leafLimit = MapGeometry.leafCount(volumeSize: size)
        var result: [DiffExtent] = []
        var leaf: UInt64 = 0
        while leaf < leafLimit {
            let one = try nextLeaf(older, from: leaf, limit: leafLimit)
            let other = try nextLeaf(newer, from: leaf, limit: leafLimit)
            guard let next = [one, other].compactMap({ $0 }).min() else { break }
            var block = MapGeometry.firstBlock(ofLeaf: next)
            let end = min(limit, MapGeometry.firstBlock(ofLeaf: next + 1))
            while block < end {
                let count = Int(min(end - block, UInt64(IOContext.blockLimit)))
                try resolve(older, block: block, count: count, first)
                try resolve(newer, block: block, count: count, second)
                for index in 0..<count {
                    let number = block + UInt64(index)
                    // Beyond its own end a view holds nothing.
                    let before = number * blockSize64 < olderSize ? first.sums[index] : 0
                    let after = number * blockSize64 < newerSize ? second.sums[index] : 0
                    if before == after && before != lostSum { continue }
                    let zero = hasher.sum(zeroBlock.base, block: number)
                    let isEmptyBefore = before == 0 || before == zero
                    let isEmptyAfter = after == 0 || after == zero
                    if isEmptyBefore && isEmptyAfter { continue }
                    let start = number * blockSize64
                    if let last = result.last, last.start + last.length == start, last.exists == !isEmptyAfter {
                        result[result.count - 1].length += blockSize64
                    } else {
                        result.append(DiffExtent(start: start, length: blockSize64, exists: !isEmptyAfter))
                    }
                }
                block += UInt64(count)
            }
            leaf = next + 1
        }
        return result
    }

    // MARK: Space

    /// Bytes that the images of a view's chain occupy.
    public func allocatedBytes(_ target: Target) throws(StoreError) -> UInt64 {
        let files: [LayerFiles]
        switch target {
        case .head:
            files = state.withLock { state in
                state.tierFiles + state.base.layers.map { $0.files }
            }
        case .layer(let identifier): files = try view(of: identifier).layers.map { $0.files }
        }
        return try calling { () throws(IOError) in
            var total: UInt64 = 0
            for file in files { total += try file.image.allocated() }
            return total
        }
    }

    /// Free and total bytes of the file system.
    public func space() throws(StoreError) -> Space { try calling { () throws(IOError) in try directory.space() } }

    /// Reserves room for the blocks of the head that nothing holds yet.
    public func reserve(_ range: BlockRange) throws(StoreError) {
        try checkWritable()
        let files = state.withLock { $0.tierFiles[$0.tierFiles.count - 1] }
        try calling { () throws(IOError) in try files.image.reserve(offset: range.offset, count: range.byteCount) }
    }

    /// The space of every layer, parents before children, the head last.
    public func usage() throws(StoreError) -> [LayerUsage] {
        if !isReadOnly {
            try withLane("checkpoint") { () throws(StoreError) in
                _ = try checkpoint()
                try sealAll()
            }
        }
        let (document, sealed, tier) = state.withLock { ($0.document, $0.sealed, $0.tiers[0]) }
        let (headLayer, headPresent) = state.withLock { _ in (tier.layer, tier.present) }
        var result: [LayerUsage] = []
        for entry in document.layers {
            guard let identifier = Identifier(entry.uuid) else { continue }
            let isHead = entry.uuid == document.head
            guard let layer = isHead ? headLayer : sealed[identifier] else { continue }
            let present = (isHead ? headPresent : entry.present) * blockSize64
            let children = Self.children(of: entry.uuid, document).compactMap { child -> Layer? in
                child.uuid == document.head ? headLayer : Identifier(child.uuid).flatMap { sealed[$0] }
            }
            let exclusive = isHead ? present : coveredBlocks(of: layer, by: children) * blockSize64
            result.append(
                LayerUsage(
                    snapshot: isHead ? nil : entry.snapshot?.name, layer: identifier, presentBytes: present,
                    exclusiveBytes: exclusive, freedIfDeletedBytes: isHead || children.count > 1 ? 0 : exclusive,
                    allocatedBytes: try calling { () throws(IOError) in try layer.files.image.allocated() },
                    isBeingDeleted: entry.removed))
        }
        return result
    }

    /// Blocks of `layer` that all of `children` hold too, so that nobody but the layer itself shows them.
    private func coveredBlocks(of layer: Layer, by children: [Layer]) -> UInt64 {
        let limit = MapGeometry.leafCount(volumeSize: FormatLimit.volumeSize)
        var total: UInt64 = 0
        var leaf: UInt64 = 0
        while let next = (try? layer.nextLeaf(from: leaf, limit: limit)) ?? nil {
            let page = layer.leafOrLost(next)
            let above = children.map { $0.leafOrLost(next) }
            for index in 0..<MapGeometry.entries where page.entries[index] != 0 {
                if above.allSatisfy({ $0.entries[index] != 0 }) { total += 1 }
            }
            leaf = next + 1
        }
        return total
    }

    // MARK: Figures

    /// The replica's figures at a moment.
    public struct Figures: Sendable {
        public var revision: UInt64
        public var flushedRevision: UInt64
        public var checkpointRevision: UInt64
        public var historyHash: Hash128
        public var layerCount: Int
        public var snapshotCount: Int
        public var journalSize: UInt64
        public var journalUsed: UInt64
        public var overlayBlocks: Int
        public var work: String?
        public var isFull: Bool
        public var failure: String?
        public var counters: ReplicaCounters
    }

    /// Taken without waiting for any disk.
    public var figures: Figures {
        let journalFigures = journal.figures
        let slot = superStore.current
        let work = lane.current
        return state.withLock { state in
            Figures(
                revision: journalFigures.revision, flushedRevision: journalFigures.flushed,
                checkpointRevision: slot.checkpointRevision, historyHash: journalFigures.historyHash,
                layerCount: state.document.layers.count + state.tiers.count - 1,
                snapshotCount: state.document.layers.filter { $0.snapshot != nil && !$0.removed }.count
                    + state.tiers.count - 1,
                journalSize: slot.journalSize, journalUsed: journalFigures.usedBlocks * blockSize64,
                overlayBlocks: state.tiers.reduce(0) { $0 + $1.overlayCount }, work: work, isFull: state.isFull,
                failure: state.failure?.text, counters: state.counters)
        }
    }
}
