import Glibc
import Primitives

/// One line of /proc/self/mountinfo.
struct MountEntry: Sendable, Hashable {
    /// `major:minor` of the device.
    var device: String
    var mountpoint: String
    var type: String
    var source: String

    var isOurs: Bool { type == MountEntry.ourType }
    static let ourType = "fuse.replica-store"

    /// Every mount that this process sees, oldest first.
    static func all() -> [MountEntry] { parse(readSmallFile("/proc/self/mountinfo") ?? "") }

    static func parse(_ text: String) -> [MountEntry] {
        text.split(separator: "\n").compactMap { line in
            // ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS
            let fields = line.split(separator: " ", omittingEmptySubsequences: false)
            guard let dash = fields.dropFirst(6).firstIndex(of: "-"), fields.count > dash + 2 else { return nil }
            return MountEntry(
                device: String(fields[2]), mountpoint: unescaped(fields[4]), type: String(fields[dash + 1]),
                source: unescaped(fields[dash + 2]))
        }
    }

    /// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
    private static func unescaped(_ text: Substring) -> String {
        var result: [UInt8] = []
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.first {
            if byte == UInt8(ascii: "\\"), bytes.count >= 4,
                let value = UInt8(String(decoding: bytes.dropFirst().prefix(3), as: UTF8.self), radix: 8)
            {
                result.append(value)
                bytes = bytes.dropFirst(4)
            } else {
                result.append(byte)
                bytes = bytes.dropFirst()
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}

/// A file of /proc or /sys, which have no size; nil if it cannot be read. At most 16 MiB.
func readSmallFile(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while bytes.count < 16 << 20 {
        let got = read(descriptor, &buffer, buffer.count)
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { return got == 0 ? String(decoding: bytes, as: UTF8.self) : nil }
        bytes += buffer[..<got]
    }
    return nil
}

/// The names in a directory, sorted; empty if it cannot be read.
func namesInDirectory(_ path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}
