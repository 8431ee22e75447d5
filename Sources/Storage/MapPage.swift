internal import Format
internal import Primitives

/// The 504 entries of one map page in memory. Filled once, by whoever made it, and only read after that.
final class MapPage: @unchecked Sendable {
    let entries: UnsafeMutablePointer<UInt64>
    /// The last volume operation that changed the page.
    var lastRevision: UInt64 = 0
    /// The slots of the file that hold exactly this content, as bits. Only the maintenance lane reads and writes it.
    var slots: UInt8 = 0

    init() {
        entries = .allocate(capacity: MapGeometry.entries)
        entries.initialize(repeating: 0, count: MapGeometry.entries)
    }

    /// A page to change that starts as `other`.
    convenience init(copying other: MapPage) {
        self.init()
        entries.update(from: other.entries, count: MapGeometry.entries)
        lastRevision = other.lastRevision
        slots = other.slots
    }

    deinit { entries.deallocate() }

    /// The page of a range that holds nothing.
    static let empty = MapPage()

    /// The page of a place whose content is lost: every entry is present and none verifies.
    static func lost() -> MapPage {
        let page = MapPage()
        page.entries.update(repeating: lostSum, count: MapGeometry.entries)
        page.lastRevision = UInt64.max
        return page
    }

    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: entries, count: MapGeometry.entries * 8)
    }

    var isEmpty: Bool { bytes.isZero }

    /// One entry of a page that nobody else may hold: the caller keeps it alive during this call, which he would not
    /// while he follows `entries` of a page without a name.
    func sum(at slot: Int) -> UInt64 { entries[slot] }

    var presentCount: UInt64 {
        var total: UInt64 = 0
        for index in 0..<MapGeometry.entries where entries[index] != 0 { total += 1 }
        return total
    }
}
