internal import Format
internal import Primitives

/// Where the newest version of a block is.
///
/// The two top bits say the kind, the rest the place in it:
///
///     00 nowhere: reads as zeros     01 a block of the journal ring     10 a layer's image     11 damaged
struct Place: Equatable {
    var bits: UInt64

    static let nowhere = Place(bits: 0)
    /// In the image of the tier that the entry belongs to.
    static let direct = Place(bits: 2 << 62)
    static let damaged = Place(bits: 3 << 62)

    /// Block `block` of the ring, counted from the start of the journal file.
    @inline(__always)
    static func ring(_ block: UInt64) -> Place { Place(bits: 1 << 62 | block) }
    /// The image of source number `source` of a lookup.
    @inline(__always)
    static func image(_ source: Int) -> Place { Place(bits: 2 << 62 | UInt64(source)) }

    @inline(__always) var isNowhere: Bool { bits == 0 }
    @inline(__always) var isRing: Bool { bits >> 62 == 1 }
    @inline(__always) var isImage: Bool { bits >> 62 == 2 }
    @inline(__always) var isDamaged: Bool { bits >> 62 == 3 }
    @inline(__always) var number: UInt64 { bits & ~(3 << 62) }
}

/// The blocks of one layer whose newest version is in the journal and not yet in the layer's map.
///
/// It holds places and sums, never bytes: those stay in the ring, which the kernel caches. Single blocks stand in an
/// open-addressed table of 24 bytes an entry, long emptied ranges in a sorted list, so that a discard of a whole
/// volume costs one entry.
///
/// Invariants
/// 1. A block of the table wins over a range that holds it; a new range empties the table's blocks inside it.
/// 2. Ranges do not touch or overlap.
final class Overlay {
    struct Entry {
        var block: UInt64
        var place: Place
        var sum: UInt64
    }

    private var slots: UnsafeMutablePointer<Entry>
    private var capacity: Int
    private(set) var count = 0
    private(set) var ranges: [BlockRange] = []
    /// The leaves of the table's blocks, rising; made when asked for and kept until the next new block.
    private var knownLeaves: [UInt64]?
    /// Blocks whose place is `direct`.
    private(set) var directCount: UInt64 = 0

    /// Marks a free slot; no volume has so many blocks.
    private static let free = UInt64.max
    /// Emptied ranges up to this many blocks go into the table.
    private static let shortRange: UInt64 = 64

    init() {
        capacity = 64
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: Entry(block: Self.free, place: .nowhere, sum: 0), count: capacity)
    }

    deinit { slots.deallocate() }

    var isEmpty: Bool { count == 0 && ranges.isEmpty }

    @inline(__always)
    private func home(_ block: UInt64) -> Int {
        Int(truncatingIfNeeded: (block &* 0x9E37_79B9_7F4A_7C15) >> 32) & (capacity - 1)
    }

    /// The newest record of `block`, or nil if it has none.
    @inline(__always)
    func find(_ block: UInt64) -> Entry? {
        var index = home(block)
        while true {
            let entry = slots[index]
            if entry.block == block { return entry }
            if entry.block == Self.free { break }
            index = (index + 1) & (capacity - 1)
        }
        if ranges.isEmpty { return nil }
        return rangeIndex(holding: block).map { _ in Entry(block: block, place: .nowhere, sum: 0) }
    }

    private func rangeIndex(holding block: UInt64) -> Int? {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].end <= block { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].start <= block ? low : nil
    }

    /// Sets the newest record of `block`.
    @inline(__always)
    func insert(_ block: UInt64, _ place: Place, sum: UInt64) {
        var index = home(block)
        while true {
            let found = slots[index].block
            if found == block {
                if slots[index].place == .direct { directCount -= 1 }
                slots[index].place = place
                slots[index].sum = sum
                if place == .direct { directCount += 1 }
                return
            }
            if found == Self.free { break }
            index = (index + 1) & (capacity - 1)
        }
        slots[index] = Entry(block: block, place: place, sum: sum)
        knownLeaves = nil
        if place == .direct { directCount += 1 }
        count += 1
        if count * 4 > capacity * 3 { grow() }
    }

    private func grow() {
        let old = slots
        let oldCapacity = capacity
        capacity *= 2
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: Entry(block: Self.free, place: .nowhere, sum: 0), count: capacity)
        for position in 0..<oldCapacity where old[position].block != Self.free {
            var index = home(old[position].block)
            while slots[index].block != Self.free { index = (index + 1) & (capacity - 1) }
            slots[index] = old[position]
        }
        old.deallocate()
    }

    /// Records that the blocks read as zeros.
    func empty(_ range: BlockRange) {
        if range.count <= Self.shortRange {
            for block in range.start..<range.end { insert(block, .nowhere, sum: 0) }
            return
        }
        if range.count < UInt64(count) {
            for block in range.start..<range.end {
                var index = home(block)
                while slots[index].block != Self.free {
                    if slots[index].block == block {
                        clear(index)
                        break
                    }
                    index = (index + 1) & (capacity - 1)
                }
            }
        } else {
            for index in 0..<capacity
            where slots[index].block != Self.free && slots[index].block >= range.start && slots[index].block < range.end
            {
                clear(index)
            }
        }
        addRange(range)
    }

    private func clear(_ index: Int) {
        if slots[index].place == .direct { directCount -= 1 }
        slots[index].place = .nowhere
        slots[index].sum = 0
    }

    private func addRange(_ range: BlockRange) {
        // The first range that ends at or behind the new one's start, and the first that starts behind its end.
        var first = 0
        var high = ranges.count
        while first < high {
            let middle = (first + high) / 2
            if ranges[middle].end < range.start { first = middle + 1 } else { high = middle }
        }
        var last = first
        var start = range.start
        var end = range.end
        while last < ranges.count && ranges[last].start <= range.end {
            start = min(start, ranges[last].start)
            end = max(end, ranges[last].end)
            last += 1
        }
        ranges.replaceSubrange(first..<last, with: CollectionOfOne(BlockRange(start: start, count: end - start)))
    }

    /// Takes over the records of a later overlay.
    func absorb(_ later: Overlay) {
        for range in later.ranges { empty(range) }
        for entry in later.sortedEntries() { insert(entry.block, entry.place, sum: entry.sum) }
    }

    /// The first leaf at or behind `leaf` that holds a block of the table.
    func nextLeaf(from leaf: UInt64) -> UInt64? {
        let leaves: [UInt64]
        if let known = knownLeaves {
            leaves = known
        } else {
            var found: Set<UInt64> = []
            for index in 0..<capacity where slots[index].block != Self.free {
                found.insert(MapGeometry.leaf(of: slots[index].block))
            }
            leaves = found.sorted()
            knownLeaves = leaves
        }
        var low = 0
        var high = leaves.count
        while low < high {
            let middle = (low + high) / 2
            if leaves[middle] < leaf { low = middle + 1 } else { high = middle }
        }
        return low < leaves.count ? leaves[low] : nil
    }

    /// Every block of the table, by rising number.
    func sortedEntries() -> [Entry] {
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        for index in 0..<capacity where slots[index].block != Self.free { entries.append(slots[index]) }
        entries.sort { $0.block < $1.block }
        return entries
    }
}
