internal import Format
internal import HostIO
public import Primitives

extension Replica {
    /// A context for one request; give it back when the request is done.
    public func takeContext() -> IOContext { contexts.take() }
    /// Ends the use of a context.
    public func giveBack(_ context: IOContext) { contexts.give(context) }

    /// What is read: the live head, or the layer of a snapshot.
    public enum Target: Sendable, Hashable {
        case head
        case layer(Identifier)
    }

    /// Reads whole blocks, each verified; holes read as zeros.
    ///
    /// A block that moved between the lookup and the read (a checkpoint, a merge, a reused ring) does not verify and is
    /// looked up again. It is damaged only when the same place fails twice with the same sum.
    public func read(
        _ target: Target, block: UInt64, count: Int, into bytes: UnsafeMutableRawPointer, _ context: IOContext
    ) throws(StoreError) {
        invariant(count <= IOContext.blockLimit, "a read of \(count) blocks")
        var attempt = 0
        while true {
            try resolve(target, block: block, count: count, context)
            if try fetch(block: block, count: count, into: bytes, context) { return }
            if attempt > 0 {
                for index in 0..<count
                where context.isBad[index] && context.wasBad[index]
                    && context.places[index] == context.earlierPlaces[index]
                    && context.sums[index] == context.earlierSums[index]
                {
                    throw damage(block: block, count: count, first: index, context)
                }
            }
            context.rememberAttempt(count)
            attempt += 1
            if attempt > readAttemptLimit { throw damage(block: block, count: count, first: 0, context) }
        }
    }

    private func damage(block: UInt64, count: Int, first: Int, _ context: IOContext) -> StoreError {
        var last = first
        while last + 1 < count && context.isBad[last + 1] { last += 1 }
        state.withLock { $0.counters.damagedReads += 1 }
        return .damagedBlocks(
            BlockRange(start: block + UInt64(first), count: UInt64(last - first + 1)),
            path: sourcePath(context.places[first], context))
    }

    private func sourcePath(_ place: Place, _ context: IOContext) -> String {
        if place.isRing { return journal.file.path }
        if place.isImage { return source(Int(place.number), context).image.path }
        return directory.path
    }

    private func source(_ number: Int, _ context: IOContext) -> LayerFiles {
        let below = context.view?.layers.count ?? 0
        return number < below ? context.view!.layers[number].files : context.tierFiles[number - below]
    }

    /// Fills the context with the place and sum of each block.
    func resolve(_ target: Target, block: UInt64, count: Int, _ context: IOContext) throws(StoreError) {
        switch target {
        case .layer(let identifier):
            let view = try view(of: identifier)
            context.view = view
            context.tierFiles = []
            forEachLeaf(block: block, count: count) { leaf, first, position, length in
                let page = view.leaf(leaf)
                for index in 0..<length {
                    take(page, first + index, at: position + index, context)
                }
            }
        case .head:
            while true {
                enum Missing { case page(Tier, UInt64, UInt64), leaf(ChainView, UInt64) }
                let missing = state.withLock { state -> Missing? in
                    context.view = state.base
                    context.tierFiles = state.tierFiles
                    let firstLeaf = MapGeometry.leaf(of: block)
                    let lastLeaf = MapGeometry.leaf(of: block + UInt64(count) - 1)
                    for leaf in firstLeaf...lastLeaf {
                        for tier in state.tiers where tier.cachedPage(leaf) == nil {
                            return .page(tier, leaf, tier.version)
                        }
                        if state.base.cachedLeaf(leaf) == nil { return .leaf(state.base, leaf) }
                    }
                    resolveHead(&state, block: block, count: count, context)
                    return nil
                }
                switch missing {
                case nil: return
                case .page(let tier, let leaf, let version): load(tier, leaf, version: version)
                case .leaf(let view, let leaf): _ = view.leaf(leaf)
                }
            }
        }
    }

    /// Reads a page of a tier's map into memory, unless the map changes meanwhile.
    func load(_ tier: Tier, _ leaf: UInt64, version: UInt64) {
        let layer = state.withLock { _ in tier.layer }
        let page = layer.leafOrLost(leaf)
        state.withLock { _ in tier.keep(leaf, page, version: version) }
    }

    private func resolveHead(_ state: inout State, block: UInt64, count: Int, _ context: IOContext) {
        let below = state.base.layers.count
        let top = state.tiers.count - 1
        forEachLeaf(block: block, count: count) { leaf, first, position, length in
            guard let page = state.base.cachedLeaf(leaf) else { invariantFailed("leaf \(leaf) is gone") }
            for index in 0..<length {
                let number = block + UInt64(position + index)
                var isFound = false
                for tierIndex in stride(from: top, through: 0, by: -1) {
                    let tier = state.tiers[tierIndex]
                    if let entry = tier.record(of: number) {
                        context.places[position + index] = entry.place.isImage ? .image(below + tierIndex) : entry.place
                        context.sums[position + index] = entry.sum
                        isFound = true
                        break
                    }
                    guard let own = tier.cachedPage(leaf) else { invariantFailed("page \(leaf) is gone") }
                    let sum = own.entries[first + index]
                    if sum != 0 {
                        context.places[position + index] = sum == lostSum ? .damaged : .image(below + tierIndex)
                        context.sums[position + index] = sum
                        isFound = true
                        break
                    }
                }
                if !isFound { take(page, first + index, at: position + index, context) }
            }
        }
    }

    @inline(__always)
    private func take(_ page: ChainView.Leaf, _ entry: Int, at position: Int, _ context: IOContext) {
        let sum = page.sums[entry]
        context.sums[position] = sum
        if sum == 0 {
            context.places[position] = .nowhere
        } else if sum == lostSum || page.owners[entry] == ChainView.Leaf.lost {
            context.places[position] = .damaged
        } else {
            context.places[position] = .image(Int(page.owners[entry]))
        }
    }

    /// Calls `body` with each leaf that the blocks touch: its number, the first entry in it, the position in the
    /// request, and how many blocks of the request it holds.
    @inline(__always)
    func forEachLeaf(block: UInt64, count: Int, _ body: (UInt64, Int, Int, Int) -> Void) {
        var position = 0
        while position < count {
            let number = block + UInt64(position)
            let leaf = MapGeometry.leaf(of: number)
            let first = Int(number - MapGeometry.firstBlock(ofLeaf: leaf))
            let length = min(count - position, MapGeometry.entries - first)
            body(leaf, first, position, length)
            position += length
        }
    }

    /// Reads what `resolve` found; true if every block verifies, otherwise `isBad` says which do not.
    private func fetch(block: UInt64, count: Int, into bytes: UnsafeMutableRawPointer, _ context: IOContext)
        throws(StoreError) -> Bool
    {
        var isGood = true
        var position = 0
        while position < count {
            let place = context.places[position]
            var length = 1
            let target = bytes + position * blockSize
            if place.isNowhere {
                while position + length < count && context.places[position + length].isNowhere { length += 1 }
                UnsafeMutableRawBufferPointer(start: target, count: length * blockSize).zero()
                for index in 0..<length { context.isBad[position + index] = false }
                position += length
                continue
            }
            if place.isDamaged {
                context.isBad[position] = true
                isGood = false
                position += 1
                continue
            }
            let file: any File
            let offset: UInt64
            if place.isRing {
                while position + length < count && context.places[position + length].isRing
                    && context.places[position + length].number == place.number + UInt64(length)
                {
                    length += 1
                }
                file = journal.file
                offset = place.number * blockSize64
            } else {
                while position + length < count && context.places[position + length] == place { length += 1 }
                file = source(Int(place.number), context).image
                offset = (block + UInt64(position)) * blockSize64
            }
            do throws(IOError) {
                try file.readPadded(
                    into: UnsafeMutableRawBufferPointer(start: target, count: length * blockSize), at: offset)
            } catch {
                // Which of the blocks the device refuses is found one by one.
                if length > 1 {
                    for index in 0..<length { context.isBad[position + index] = false }
                    for index in 0..<length {
                        let one = UnsafeMutableRawBufferPointer(start: target + index * blockSize, count: blockSize)
                        do throws(IOError) {
                            try file.readPadded(into: one, at: offset + UInt64(index) * blockSize64)
                        } catch {
                            one.initializeMemory(as: UInt8.self, repeating: 0)
                        }
                    }
                } else {
                    context.isBad[position] = true
                    isGood = false
                    position += 1
                    continue
                }
            }
            for index in 0..<length {
                let number = block + UInt64(position + index)
                let isRight = hasher.sum(target + index * blockSize, block: number) == context.sums[position + index]
                context.isBad[position + index] = !isRight
                if !isRight { isGood = false }
            }
            position += length
        }
        return isGood
    }

    /// The layers of a snapshot as they are now.
    func view(of identifier: Identifier) throws(StoreError) -> ChainView {
        let found = state.withLock { state -> ChainView? in
            var identifier = identifier
            while let target = state.moved[identifier] { identifier = target }
            if let known = state.views[identifier] { return known }
            guard let layers = Self.ancestry(of: identifier, state) else { return nil }
            let view = ChainView(layers: layers)
            state.views[identifier] = view
            return view
        }
        guard let found else { throw .notFound("the snapshot's layer \(identifier)") }
        return found
    }

    /// The layer and those below it, oldest first; nil if it is not a sealed layer of the tree.
    static func ancestry(of identifier: Identifier, _ state: State) -> [Layer]? {
        var parents: [String: String?] = [:]
        for layer in state.document.layers { parents[layer.uuid] = layer.parent }
        var layers: [Layer] = []
        var next: String? = identifier.description
        while let uuid = next {
            guard let identifier = Identifier(uuid), let layer = state.sealed[identifier] else { return nil }
            layers.append(layer)
            next = parents[uuid] ?? nil
        }
        return layers.reversed()
    }
}

/// A block that is overwritten all the time may fail so often in a row; damage is told from it after two.
private let readAttemptLimit = 100
