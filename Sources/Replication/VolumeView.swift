internal import Primitives
public import Storage

/// A readable image of the volume: the live head or one snapshot. Calls may come from any thread.
public protocol VolumeView: AnyObject, Sendable {
    /// Bytes.
    var size: UInt64 { get }
    /// Reads any range; holes read as zeros. Every block is verified.
    /// - Throws: `damagedBlocks` for exactly the blocks that do not verify, `outOfRange`, `io`, `closed`.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError)
    /// The first offset at or behind `offset` that holds data by the map, nil when there is none (SEEK_DATA).
    func nextData(from offset: UInt64) throws(StoreError) -> UInt64?
    /// The first offset at or behind `offset` that holds none, the size at the latest (SEEK_HOLE).
    func nextHole(from offset: UInt64) throws(StoreError) -> UInt64
    /// The origin of each run of the range, in order, without gaps, at most `limit` of them (the rest is cut off).
    func extents(at offset: UInt64, length: UInt64, limit: Int) throws(StoreError) -> [MapExtent]
    /// Bytes that the files of this view's chain occupy.
    func allocatedBytes() throws(StoreError) -> UInt64
}
