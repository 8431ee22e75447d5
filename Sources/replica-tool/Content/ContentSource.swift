import Control
import Glibc
import Primitives
import Replication

/// Bytes with holes: a volume, a snapshot, or an image file. One thread uses it.
protocol ContentSource: AnyObject {
    /// For messages.
    var name: String { get }
    var size: UInt64 { get }
    /// The run at `offset`, which lies inside: how long, and whether it may hold anything but zeros.
    func run(at offset: UInt64) throws(ToolError) -> (length: UInt64, isData: Bool)
    /// At most `contentChunk` bytes.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError)
    func close()
}

/// What is read and written at a time.
let contentChunk = controlDataLimit

/// A volume or a snapshot, here or in its daemon.
final class SessionSource: ContentSource {
    let name: String
    let size: UInt64
    private let session: any Session
    private let snapshot: String?
    private var ownsSession = true
    /// The extents from the last question on, in order.
    private var extents: [(start: UInt64, length: UInt64, isData: Bool)] = []

    init(_ session: any Session, snapshot: String?) throws(ToolError) {
        self.session = session
        self.snapshot = snapshot
        name = session.target.path + (snapshot.map { "@" + $0 } ?? "")
        size = try session.call("view", ["snapshot": JSON(snapshot)])["size"]?.count ?? 0
    }

    func run(at offset: UInt64) throws(ToolError) -> (length: UInt64, isData: Bool) {
        if let found = known(offset) { return found }
        extents = []
        let arguments: JSON = ["snapshot": JSON(snapshot), "offset": JSON(offset), "limit": JSON(extentsPerMessage)]
        _ = try session.call("map", arguments, progress: nil) { portion in
            for extent in portion["extents"]?.items ?? [] {
                guard let start = extent["start"]?.count, let length = extent["length"]?.count, length > 0 else {
                    continue
                }
                let isData = extent["data"]?.flag ?? true
                if let last = self.extents.last, last.isData == isData, last.start + last.length == start {
                    self.extents[self.extents.count - 1].length += length
                } else {
                    self.extents.append((start, length, isData))
                }
            }
            return false
        }
        guard let found = known(offset) else {
            throw ToolError(.failed, "\(name): the map says nothing of byte \(offset)")
        }
        return found
    }

    private func known(_ offset: UInt64) -> (length: UInt64, isData: Bool)? {
        // Asked in order, the answer is at the front.
        while let first = extents.first, first.start + first.length <= offset { extents.removeFirst() }
        guard let first = extents.first, first.start <= offset else { return nil }
        return (first.start + first.length - offset, first.isData)
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError) {
        try session.read(snapshot: snapshot, at: offset, into: buffer)
    }

    var path: String { session.target.path }

    /// Another view of the same volume through the same session, which it leaves open.
    func sibling(snapshot: String?) throws(ToolError) -> SessionSource {
        let result = try SessionSource(session, snapshot: snapshot)
        result.ownsSession = false
        return result
    }

    func close() { if ownsSession { try? session.close() } }
}

/// A raw image.
final class FileSource: ContentSource {
    let name: String
    var size: UInt64 { file.size }
    private let file: RawFile
    /// Removed at the end; of an image that was converted for the purpose.
    private let temporary: String?

    init(_ file: RawFile, name: String? = nil, temporary: String? = nil) {
        self.file = file
        self.name = name ?? file.path
        self.temporary = temporary
    }

    func run(at offset: UInt64) throws(ToolError) -> (length: UInt64, isData: Bool) { file.run(at: offset) }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError) {
        try file.read(at: offset, into: buffer)
    }
    func close() {
        if let temporary { unlink(temporary) }
    }
}

/// What a word of `compare` names: a volume, a replica, a snapshot, or a raw file.
func openContent(_ word: String, _ context: Context) throws(ToolError) -> any ContentSource {
    let address = try Address(word)
    if address.snapshot == nil, exists(address.path), !isDirectory(address.path) {
        return FileSource(try RawFile.open(address.path, writable: false))
    }
    let target = try context.target(address.path)
    return try SessionSource(target.session(.readOnly, host: context.host), snapshot: address.snapshot)
}
