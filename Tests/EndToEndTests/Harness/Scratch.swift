import Foundation

/// A folder of one test, on a real file system, removed at its end.
final class Scratch {
    let path: String
    private var counter = 0

    /// Calls `body` with a new folder; whatever still hangs on it afterwards is undone.
    static func use<Result>(_ body: (Scratch) throws -> Result) throws -> Result {
        let scratch = try Scratch()
        defer { scratch.remove() }
        return try body(scratch)
    }

    private init() throws {
        // TMPDIR is a folder of tools/test; without it, not /tmp, which may be memory.
        let base = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/var/tmp"
        var template =
            Array("\(base)/e2e-".utf8CString.dropLast()) + Array(repeating: CChar(UInt8(ascii: "X")), count: 6) + [0]
        guard mkdtemp(&template) != nil else {
            throw HarnessError("\(base): mkdtemp: \(String(cString: strerror(errno)))")
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A path in the folder.
    func callAsFunction(_ name: String) -> String { path + "/" + name }

    /// A path that nothing has yet.
    func newPath(_ kind: String) -> String {
        counter += 1
        return path + "/.\(kind)-\(counter)"
    }

    /// Makes a folder and gives its path.
    func folder(_ name: String) throws -> String {
        try FileManager.default.createDirectory(atPath: self(name), withIntermediateDirectories: true)
        return self(name)
    }

    private func remove() {
        // For a look at what a failed test left: REPLICA_STORE_TEST_KEEP=1.
        if ProcessInfo.processInfo.environment["REPLICA_STORE_TEST_KEEP"] != nil {
            print("kept: \(path)")
            return
        }
        // Whatever a failed test left mounted or attached; tools/test does the same once more for all.
        let script = """
            . "$1/tools/common.sh"
            PATH=$PATH:/usr/sbin:/sbin
            clean_below "$2"
            """
        if let cleaner = try? Running(["bash", "-c", script, "clean", packageRoot, path], in: self) {
            _ = cleaner.wait(seconds: 60)
        }
        try? FileManager.default.removeItem(atPath: path)
    }
}

/// The package's folder, found from this file's own place in it.
let packageRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path
