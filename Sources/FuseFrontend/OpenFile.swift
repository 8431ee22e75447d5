internal import CFuse3
internal import Glibc

/// An open file: what the kernel's file handle (`fh`) stands for.
final class OpenFile: Sendable {
    enum Content: Sendable {
        case image(any MountedImage)
        /// The text of a file of `.replica`, as it was at the open.
        case document([UInt8])
    }
    let content: Content
    let node: UInt64
    /// O_RDWR or O_WRONLY.
    let isWritable: Bool
    /// O_DSYNC or O_SYNC was given at the open, so also an fallocate(2) is to be durable.
    let isDurable: Bool

    init(content: Content, node: UInt64, isWritable: Bool, isDurable: Bool) {
        self.content = content
        self.node = node
        self.isWritable = isWritable
        self.isDurable = isDurable
    }

    /// A handle that owns `self` until `release(handle:)`.
    func handle() -> UInt64 { UInt64(UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())) }

    /// The file behind a handle that the kernel still has.
    @inline(__always)
    static func of(handle: UInt64) -> OpenFile? {
        guard let pointer = UnsafeRawPointer(bitPattern: UInt(handle)) else { return nil }
        return Unmanaged<OpenFile>.fromOpaque(pointer).takeUnretainedValue()
    }

    static func release(handle: UInt64) -> OpenFile? {
        guard let pointer = UnsafeRawPointer(bitPattern: UInt(handle)) else { return nil }
        return Unmanaged<OpenFile>.fromOpaque(pointer).takeRetainedValue()
    }
}

/// An open directory: the entries as they were at the open or the last rewind.
final class OpenDirectory: @unchecked Sendable {
    struct Entry {
        var name: String
        var node: UInt64
        var isDirectory: Bool
    }
    /// The kernel sends the READDIRs of one open directory one at a time.
    var entries: [Entry] = []

    func handle() -> UInt64 { UInt64(UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())) }

    static func of(handle: UInt64) -> OpenDirectory? {
        guard let pointer = UnsafeRawPointer(bitPattern: UInt(handle)) else { return nil }
        return Unmanaged<OpenDirectory>.fromOpaque(pointer).takeUnretainedValue()
    }

    static func release(handle: UInt64) {
        guard let pointer = UnsafeRawPointer(bitPattern: UInt(handle)) else { return }
        Unmanaged<OpenDirectory>.fromOpaque(pointer).release()
    }
}
