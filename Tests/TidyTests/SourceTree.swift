import Foundation

/// One text file of the package.
struct TextFile: Sendable {
    /// Relative to the package's folder, as in `Sources/Storage/Replica.swift`.
    var path: String
    var text: String

    /// The lines, the first being line 1.
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }

    /// The target that a file below `Sources` or `Tests` belongs to.
    var module: String? {
        let parts = path.split(separator: "/")
        guard parts.count > 2, parts[0] == "Sources" || parts[0] == "Tests" else { return nil }
        return String(parts[1])
    }

    var isSwift: Bool { path.hasSuffix(".swift") }
}

/// What a check has to say about one place.
struct Finding: Hashable, Sendable, CustomStringConvertible {
    var path: String
    var line: Int
    var message: String

    init(_ file: TextFile, line: Int, _ message: String) {
        path = file.path
        self.line = line
        self.message = message
    }

    var description: String { "\(path):\(line): \(message)" }
}

/// The package as it lies on disk, read once. Every check is a pure function of it, so each can be tried on bad samples.
enum SourceTree {
    /// The package's folder, found from this file's own place in it.
    static let root: URL = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Every text file that people write: no build products, nothing hidden but `.ci`.
    static let files: [TextFile] = {
        let tops = [
            "Sources", "Tests", "tools", "docs", ".ci", "Package.swift", "README.md", "CHANGELOG.md", ".gitignore",
            ".swift-format",
        ]
        var found: [TextFile] = []
        for top in tops { collect(top, into: &found) }
        return found.sorted { $0.path < $1.path }
    }()

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
    }

    private static func collect(_ path: String, into found: inout [TextFile]) {
        let place = root.appendingPathComponent(path).path
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: place, isDirectory: &isFolder) else { return }
        if isFolder.boolValue {
            for name in (try? FileManager.default.contentsOfDirectory(atPath: place)) ?? [] {
                // A nested package (tools/fuzz) has a build folder of its own.
                if name == ".build" || name == "__pycache__" { continue }
                collect(path + "/" + name, into: &found)
            }
        } else if let text = try? String(contentsOfFile: place, encoding: .utf8) {
            found.append(TextFile(path: path, text: text))
        }
    }
}
