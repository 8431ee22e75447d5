internal import CFuse3
internal import Glibc
internal import Primitives
internal import Synchronization

/// What the callbacks of one mount share.
///
/// Invariants
/// 1. No lock is held while the volume is called.
/// 2. A reply is sent exactly once for each request; a request whose reply the kernel no longer wants is undone.
final class Server: Sendable {
    let volume: any MountedVolume
    let live: any MountedImage
    let options: MountOptions
    let nodes: SnapshotNodes
    /// Opens of the volume that can write. While there is one, the kernel may hold changed pages that it has not sent.
    let writableOpens = Atomic<Int>(0)
    /// When the volume's content last changed, in nanoseconds since 1970.
    private let modifiedNs: Atomic<Int64>
    private let truncations = Guarded(TruncatingOpens())
    private let mountedNs: Int64

    init(volume: any MountedVolume, options: MountOptions) {
        self.volume = volume
        self.live = volume.live
        self.options = options
        nodes = SnapshotNodes(volume: volume)
        mountedNs = options.now()
        modifiedNs = Atomic(mountedNs)
    }

    /// The server behind a request.
    @inline(__always)
    static func of(_ request: fuse_req_t?) -> Server {
        guard let data = fuse_req_userdata(request) else { invariantFailed("a request without its server") }
        return Unmanaged<Server>.fromOpaque(data).takeUnretainedValue()
    }

    @inline(__always)
    func noteModified() { modifiedNs.store(options.now(), ordering: .relaxed) }

    /// Sets the volume's modification time, as utimensat(2) asks; the next write replaces it.
    func setModified(_ time: timespec) {
        modifiedNs.store(Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec), ordering: .relaxed)
    }

    /// Whether the kernel may hold changed pages of the volume that are not here yet.
    ///
    /// A shared mapping can change pages in every mode, but only `writeback` gathers writes. There the holes of the map
    /// cannot be trusted while somebody has the volume open for writing; every close(2) sends the pages.
    var mayHaveUnsentPages: Bool { gathersWrites && writableOpens.load(ordering: .relaxed) > 0 }
    private var gathersWrites: Bool { options.cache == .writeback && !options.isReadOnly }

    // MARK: Attributes

    /// For how long the kernel believes attributes: what changes them behind its back is announced to it (resize,
    /// revert) or matters little (allocated bytes). Writes through the mount make it ask again at once.
    static let attributeSeconds = 1.0

    func attributes(of node: UInt64) throws(MountError) -> stat {
        switch node {
        case Node.root, Node.snapshots, Node.state:
            return attributes(node, mode: S_IFDIR | 0o555, size: 0, allocated: 0, mountedNs)
        case Node.status, Node.stats:
            return attributes(node, mode: S_IFREG | 0o444, size: 0, allocated: 0, options.now())
        case Node.volume:
            let mode: mode_t = options.isReadOnly ? 0o400 : 0o600
            // Archivers take a file of no blocks for one large hole. Where the kernel gathers writes it may hold pages
            // when it shows these attributes, so it never shows none.
            let allocated = max(try live.allocatedBytes(), gathersWrites ? 4096 : 0)
            return attributes(
                node, mode: S_IFREG | mode, size: live.size, allocated: allocated, modifiedNs.load(ordering: .relaxed))
        default:
            guard let entry = nodes.entry(of: node) else { throw MountError(errno: ESTALE) }
            return try attributes(of: entry)
        }
    }

    func attributes(of entry: SnapshotNodes.Entry) throws(MountError) -> stat {
        let snapshot = entry.snapshot
        return attributes(
            entry.node, mode: S_IFREG | 0o400, size: snapshot.size, allocated: try nodes.allocatedBytes(of: entry),
            snapshot.createdNs)
    }

    private func attributes(_ node: UInt64, mode: mode_t, size: UInt64, allocated: UInt64, _ timeNs: Int64) -> stat {
        var result = stat()
        result.st_ino = ino_t(node)
        result.st_mode = mode
        result.st_nlink = mode & S_IFMT == S_IFDIR ? 2 : 1
        result.st_uid = options.owner
        result.st_gid = options.group
        result.st_size = off_t(clamping: size)
        result.st_blksize = 4096
        result.st_blocks = blkcnt_t(clamping: (allocated + 511) / 512)
        // Both parts are of the sign that the kernel wants: nanoseconds count up from the second before.
        var seconds = timeNs / 1_000_000_000
        var nanoseconds = timeNs % 1_000_000_000
        if nanoseconds < 0 {
            seconds -= 1
            nanoseconds += 1_000_000_000
        }
        let time = timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds))
        result.st_atim = time
        result.st_mtim = time
        result.st_ctim = time
        return result
    }

    // MARK: O_TRUNC

    /// Notes that the request's thread opens the volume for writing.
    func noteOpen(by thread: pid_t) { truncations.withLock { $0.insert(thread) } }
    /// Notes any other request of a thread that can come before a truncate(2).
    func noteLookUp(by thread: pid_t) { _ = truncations.withLock { $0.remove(thread) } }
    /// Whether the thread's truncation to nothing belongs to an open(2) with O_TRUNC.
    func isTruncatingOpen(by thread: pid_t) -> Bool { truncations.withLock { $0.remove(thread) } }
}

/// Threads whose last request on the mount was an OPEN of the volume for writing.
///
/// open(2) with O_TRUNC arrives as an OPEN and, from the same thread with nothing between, a SETATTR of size 0. On a
/// block device O_TRUNC does nothing, and `dd of=` and `cp` rely on it, so here it does nothing either. truncate(2)
/// sends the same SETATTR, but looks the path up first, because entries are not cached; that one is refused.
struct TruncatingOpens {
    /// More threads than this between their open and their truncation: the oldest is forgotten, and its open refused.
    private static let limit = 64
    private var threads: [pid_t] = []

    mutating func insert(_ thread: pid_t) {
        // 0 stands for every process of another pid namespace.
        if thread == 0 { return }
        remove(thread)
        if threads.count == Self.limit { threads.removeFirst() }
        threads.append(thread)
    }

    @discardableResult
    mutating func remove(_ thread: pid_t) -> Bool {
        guard let index = threads.firstIndex(of: thread) else { return false }
        threads.remove(at: index)
        return true
    }
}
