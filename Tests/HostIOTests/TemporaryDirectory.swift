import CLinux
import Glibc
import HostIO
import Testing

/// A new directory of the real file system, removed with everything in it at the end.
final class TemporaryDirectory {
    let path: String

    private static let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"

    init() throws {
        var template = Array((Self.parent + "/host-io-XXXXXX").utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer -> String? in
            guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return nil }
            return String(cString: made)
        }
        path = try #require(made)
    }

    deinit {
        if let directory = try? LinuxHost().openDirectory(path) { Self.empty(directory) }
        rmdir(path)
    }

    private static func empty(_ directory: any Directory) {
        for entry in (try? directory.list()) ?? [] {
            if entry.kind == .directory {
                if let inner = try? directory.openDirectory(entry.name) { empty(inner) }
                try? directory.removeDirectory(entry.name)
            } else {
                try? directory.remove(entry.name)
            }
        }
    }

    /// Whether the file system is ext4, whose holes the double has.
    static func isExt4() -> Bool {
        let descriptor = open(parent, O_RDONLY)
        if descriptor < 0 { return false }
        defer { close(descriptor) }
        var available: UInt64 = 0
        var total: UInt64 = 0
        var type: Int64 = 0
        return cl_space(descriptor, &available, &total, &type) == 0 && type == 0xEF53
    }
}
