import HostIO
import Primitives
import SimulatedHost

extension SimulatedHost {
    /// A host with a durable, empty directory `/d`.
    static func withDirectory(_ options: Options = Options()) throws -> (SimulatedHost, any Directory) {
        let host = SimulatedHost(options)
        try host.createDirectory("/d")
        try host.openDirectory("/").sync()
        return (host, try host.openDirectory("/d"))
    }

    /// A host with a durable file `/d/f` of `count` bytes of value 1, one page for each 4096.
    static func withFile(
        count: Int = 16384, _ options: Options = Options()
    ) throws -> (SimulatedHost, any Directory, any File) {
        let (host, directory) = try withDirectory(options)
        let file = try directory.open("f", .create)
        try file.fill(1, at: 0, count)
        try file.sync()
        try directory.sync()
        return (host, directory, file)
    }
}

extension File {
    func fill(_ value: UInt8, at offset: UInt64, _ count: Int) throws(IOError) {
        let buffer = ByteBuffer(count: count)
        buffer.bytes.initializeMemory(as: UInt8.self, repeating: value)
        try write(buffer.readable, at: offset)
    }

    func bytes(at offset: UInt64, _ count: Int) throws(IOError) -> [UInt8] {
        let buffer = ByteBuffer(count: count)
        let got = try read(into: buffer.bytes, at: offset)
        return Array(buffer.readable[0..<got])
    }
}

/// What a hook did or saw; hooks run inside calls, so it is shared.
final class Notes: Sendable {
    private let list = Guarded<[String]>([])
    func add(_ note: String) { list.withLock { $0.append(note) } }
    var all: [String] { list.withLock { $0 } }
}

/// The values of the sectors of a file in which every sector has one value; nil for a sector that is mixed.
func sectors(_ bytes: [UInt8]) -> [UInt8?] {
    stride(from: 0, to: bytes.count, by: 512).map { start in
        let sector = bytes[start..<min(start + 512, bytes.count)]
        return Set(sector).count == 1 ? sector.first : nil
    }
}
