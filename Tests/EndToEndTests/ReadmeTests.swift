import Foundation
import Testing

extension EndToEnd {
    /// What the README shows works as it stands there.
    @Suite(.needsLoopDevices) struct Readme {
        /// The shell blocks of the README below `heading`.
        private func blocks(below heading: String) throws -> [String] {
            let text = try String(contentsOfFile: packageRoot + "/README.md", encoding: .utf8)
            guard let start = text.range(of: "\n## \(heading)\n") else { throw HarnessError("no heading \(heading)") }
            let rest = text[start.upperBound...]
            let section = rest.range(of: "\n## ").map { rest[..<$0.lowerBound] } ?? rest
            return section.components(separatedBy: "```sh\n").dropFirst().map {
                String($0.components(separatedBy: "```")[0])
            }
        }

        @Test func `the tour runs to its end, and the raw layers are what the volume was`() throws {
            try Scratch.use { scratch in
                let tour = try #require(try blocks(below: "Five minutes").first)
                let raw = try #require(try blocks(below: "How data is laid out").first)
                let lines = tour.split(separator: "\n", omittingEmptySubsequences: false)
                // The tool is built already; everything else is run as it is written.
                try #require(lines.prefix(2).map { $0.prefix(11) } == ["swift build", "export PATH"])
                let unmount = try #require(lines.lastIndex { $0.hasPrefix("replica-tool umount") })
                // A tenth of the size, for two sums over all of it.
                let script =
                    (["set -euo pipefail", "PATH=\(scratch("bin")):$PATH"] + lines[2..<unmount]
                    + ["sha256sum < mnt/volume > sum"] + lines[unmount...] + [Substring(raw)] + [
                        "sha256sum < volume.raw | cmp - sum"
                    ])
                    .joined(separator: "\n").replacingOccurrences(of: "--size 10G", with: "--size 1G")
                for name in ["docs", "tools"] { try scratch.must("cp", "-r", packageRoot + "/" + name, scratch(name)) }
                try scratch.must("ln", "-s", Machine.tool, try scratch.folder("bin") + "/replica-tool")
                try script.write(toFile: scratch("tour"), atomically: false, encoding: .utf8)
                let result = try scratch.run("bash", scratch("tour"), folder: scratch.path)
                #expect(result.succeeded, "\(result)")
                #expect(result.output.contains("monday"), "\(result)")
            }
        }

        @Test func `the two commands are there and say what they take`() throws {
            try Scratch.use { scratch in
                for name in try blocks(below: "Two commands").joined().split(separator: "\n").compactMap({
                    $0.split(separator: " ").first
                }) {
                    let result = try scratch.run(packageRoot + "/" + name, "--help")
                    #expect(result.succeeded && result.output.hasPrefix("usage: \(name)"), "\(result)")
                    let wrong = try scratch.run(packageRoot + "/" + name, "--no-such-option")
                    #expect(wrong.code == 64, "\(wrong)")
                }
            }
        }
    }
}
