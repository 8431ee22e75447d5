internal import Glibc
internal import Primitives

/// The unit in which the simulated file system allocates, as ext4 and XFS do by default.
let pageSize = 4096
let pageSize64: UInt64 = 4096

/// The unit that a disk writes whole or not at all.
let sectorSize = 512
let sectorsInPage = pageSize / sectorSize

/// 4096 bytes. An array, so that contents of the past share it until one of them changes.
typealias PageBytes = [UInt8]

let zeroPage = PageBytes(repeating: 0, count: pageSize)

/// One page of a file.
enum Page: Sendable {
    /// Nothing is allocated; reads as zeros.
    case absent
    /// Allocated and never written: reads as zeros, and is a hole for SEEK_DATA.
    case reserved
    case data(PageBytes)

    var isAllocated: Bool {
        if case .absent = self { return false }
        return true
    }
}

/// The bytes of one file at one moment: its size and its pages.
///
///     chunks  [ 0: 64 pages ][ 1: 64 pages ][ 900: 64 pages ] …     sorted, only those with a page
///
/// A value: a copy costs one reference, and a change to a copy costs one chunk and one page.
///
/// Invariants
/// 1. A byte of a page at or behind `size` is zero.
/// 2. `allocatedPages` counts the pages that are not absent.
struct Content: Sendable {
    private static let pagesInChunk: UInt64 = 64

    private struct Chunk: Sendable {
        var number: UInt64
        var pages: [Page]
    }

    var size: UInt64 = 0
    private(set) var allocatedPages = 0
    private var chunks: [Chunk] = []

    /// The place of the chunk `number`, or where it belongs.
    private func place(_ number: UInt64) -> Int {
        var low = 0
        var high = chunks.count
        while low < high {
            let middle = (low + high) / 2
            if chunks[middle].number < number { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func page(_ index: UInt64) -> Page {
        let at = place(index / Self.pagesInChunk)
        guard at < chunks.count, chunks[at].number == index / Self.pagesInChunk else { return .absent }
        return chunks[at].pages[Int(index % Self.pagesInChunk)]
    }

    mutating func set(_ index: UInt64, _ page: Page) {
        let number = index / Self.pagesInChunk
        let at = place(number)
        if at == chunks.count || chunks[at].number != number {
            if !page.isAllocated { return }
            chunks.insert(
                Chunk(number: number, pages: [Page](repeating: .absent, count: Int(Self.pagesInChunk))), at: at)
        }
        let slot = Int(index % Self.pagesInChunk)
        if chunks[at].pages[slot].isAllocated { allocatedPages -= 1 }
        if page.isAllocated { allocatedPages += 1 }
        chunks[at].pages[slot] = page
    }

    /// Takes the bytes of a page out, so that they can change without a copy when nothing else holds them.
    private mutating func take(_ index: UInt64) -> PageBytes {
        let at = place(index / Self.pagesInChunk)
        guard at < chunks.count, chunks[at].number == index / Self.pagesInChunk else { return zeroPage }
        let slot = Int(index % Self.pagesInChunk)
        guard case .data(let bytes) = chunks[at].pages[slot] else { return zeroPage }
        chunks[at].pages[slot] = .absent
        allocatedPages -= 1
        return bytes
    }

    /// Replaces bytes of one page, which becomes data.
    mutating func patch(_ index: UInt64, at offset: Int, _ bytes: UnsafeRawBufferPointer) {
        if bytes.count == pageSize {
            set(index, .data(pageBytes(bytes)))
            return
        }
        var page = take(index)
        page.withUnsafeMutableBytes { target in
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<(offset + bytes.count)]).copyMemory(from: bytes)
        }
        set(index, .data(page))
    }

    /// Zeroes bytes of one page if it is data; a hole and a reserved page are zero already.
    mutating func zero(_ index: UInt64, at offset: Int, count: Int) {
        guard case .data = page(index) else { return }
        zeroPage.withUnsafeBytes { patch(index, at: offset, UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
    }

    /// Allocated pages from `first` on, in order.
    func allocated(from first: UInt64) -> [UInt64] {
        var found: [UInt64] = []
        for chunk in chunks[place(first / Self.pagesInChunk)...] {
            for (slot, page) in chunk.pages.enumerated() where page.isAllocated {
                let index = chunk.number * Self.pagesInChunk + UInt64(slot)
                if index >= first { found.append(index) }
            }
        }
        return found
    }

    /// Up to `buffer.count` bytes at `offset`, fewer only at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Int {
        guard offset < size else { return 0 }
        let count = Int(min(UInt64(buffer.count), size - offset))
        var done = 0
        while done < count {
            let position = offset + UInt64(done)
            let inside = Int(position % pageSize64)
            let part = min(pageSize - inside, count - done)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<(done + part)])
            if case .data(let bytes) = page(position / pageSize64) {
                bytes.withUnsafeBytes {
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[inside..<(inside + part)]))
                }
            } else {
                zeroPage.withUnsafeBytes {
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[0..<part]))
                }
            }
            done += part
        }
        return count
    }

    /// ftruncate(2): the bytes behind a smaller size are gone, the ones up to a larger size are a hole.
    mutating func truncate(to newSize: UInt64) {
        if newSize < size {
            let inside = Int(newSize % pageSize64)
            if inside != 0 { zero(newSize / pageSize64, at: inside, count: pageSize - inside) }
            for index in allocated(from: roundedUp(newSize, to: pageSize64) / pageSize64) { set(index, .absent) }
        }
        size = newSize
    }

    /// Restores invariant 1 after pages were set one by one. Pages reserved behind the end stay.
    mutating func clearBehindEnd() {
        let inside = Int(size % pageSize64)
        if inside != 0 { zero(size / pageSize64, at: inside, count: pageSize - inside) }
        for index in allocated(from: roundedUp(size, to: pageSize64) / pageSize64) {
            if case .data = page(index) { set(index, .reserved) }
        }
    }

    /// SEEK_DATA.
    func nextData(from offset: UInt64) -> UInt64? {
        guard offset < size else { return nil }
        let first = offset / pageSize64
        if case .data = page(first) { return offset }
        for chunk in chunks[place(first / Self.pagesInChunk)...] {
            for (slot, page) in chunk.pages.enumerated() {
                let index = chunk.number * Self.pagesInChunk + UInt64(slot)
                guard index > first, case .data = page else { continue }
                return index * pageSize64 < size ? index * pageSize64 : nil
            }
        }
        return nil
    }

    /// SEEK_HOLE.
    func nextHole(from offset: UInt64) -> UInt64? {
        guard offset < size else { return nil }
        var index = offset / pageSize64
        guard case .data = page(index) else { return offset }
        while case .data = page(index) { index += 1 }
        return min(index * pageSize64, size)
    }
}

/// The 4096 bytes at `bytes` as a page; all pages of zeros are the same array.
func pageBytes(_ bytes: UnsafeRawBufferPointer) -> PageBytes {
    let isZero = zeroPage.withUnsafeBytes { zeros in
        guard let left = zeros.baseAddress, let right = bytes.baseAddress else { return false }
        return memcmp(left, right, pageSize) == 0
    }
    if isZero { return zeroPage }
    return PageBytes(unsafeUninitializedCapacity: pageSize) { target, count in
        UnsafeMutableRawBufferPointer(target).copyMemory(from: bytes)
        count = pageSize
    }
}
