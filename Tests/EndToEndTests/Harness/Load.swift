import Foundation
import Testing

/// The loads and comparisons that several suites share.
extension Scratch {
    static var writer: String { packageRoot + "/Tests/EndToEndTests/Scripts/writer.py" }

    /// Writes files into `folder`, each acknowledged by fsync, until `count` are; then kills `daemon`, if given, while
    /// the load goes on. Returns name and sha256 of what was acknowledged.
    func writeFiles(into folder: String, count: Int, killing daemon: pid_t? = nil) throws -> [(
        name: String, sum: String
    )] {
        let said = try Running(
            ["python3", Self.writer, "files", folder, String(count)] + (daemon.map { [String($0)] } ?? []), in: self
        ).wait(seconds: 120)
        let lines = said.output.split(separator: "\n").map { $0.split(separator: " ") }
        guard said.succeeded, lines.count >= count else {
            throw HarnessError("\(lines.count) files of \(count): \(said)")
        }
        return lines.map { (String($0[0]), String($0[1])) }
    }

    /// Overwrites `file` from four threads until `count` writes are acknowledged, and kills `daemon` as above.
    /// Returns the log, for `checkSlots`.
    func writeSlots(_ file: String, count: Int, killing daemon: pid_t? = nil) throws -> String {
        let said = try Running(
            ["python3", Self.writer, "slots", file, String(count)] + (daemon.map { [String($0)] } ?? []), in: self
        ).wait(seconds: 120)
        guard said.succeeded, said.output.split(separator: "\n").count >= count else {
            throw HarnessError(said.description)
        }
        return said.output
    }

    /// What is wrong with `file` by the log of `writeSlots`; nil when nothing is.
    /// - Parameter pages: whether the write under way at a kill may be there up to the edge of a page. Through its page
    ///   cache the kernel sends a write in several requests; each is whole or not there, as a write with O_DIRECT is.
    func checkSlots(_ file: String, log: String, pages: Bool) throws -> String? {
        let path = newPath("log")
        try log.write(toFile: path, atomically: false, encoding: .utf8)
        let said = try run(
            "sh", "-c", "python3 \"$1\" check \"$2\" $4 < \"$3\"", "sh", Self.writer, file, path, pages ? "pages" : "")
        return said.succeeded ? nil : said.description
    }

    /// Expects of `file` what the log of `writeSlots` says.
    func expectSlots(
        _ file: String, log: String, pages: Bool, _ comment: Comment? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let wrong = try checkSlots(file, log: log, pages: pages)
        #expect(wrong == nil, comment, sourceLocation: sourceLocation)
    }

    /// Expects that a file's bytes have this sha256.
    func expectSum(
        _ file: String, _ sum: String, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let found = try self.sum(file)
        #expect(found == sum, comment, sourceLocation: sourceLocation)
    }

    /// Expects that two files hold the same bytes, and says where they differ.
    func expectSame(
        _ left: String, _ right: String, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let result = try run(
            "sh", "-c",
            "cmp \"$1\" \"$2\" && exit; cmp -l \"$1\" \"$2\" | awk '{b[int(($1-1)/4096)]++} END {for (i in b) print \"block\", i, b[i], \"bytes\"}' | sort -k2n | head -20; exit 1",
            "cmp", left, right)
        #expect(
            result.succeeded, "\(comment?.rawValue ?? ""): \(result.output)\(result.errors)",
            sourceLocation: sourceLocation)
    }

    /// sha256 of a file's bytes, through the page cache.
    func sum(_ file: String) throws -> String { String(try must("sha256sum", file).prefix(64)) }

    /// sha256 of a file's bytes as the store has them: O_DIRECT passes the page cache by.
    func directSum(_ file: String) throws -> String {
        String(
            try must(
                "bash", "-c", "set -o pipefail; dd if=\"$1\" bs=1M iflag=direct status=none | sha256sum", "dd", file
            ).prefix(64))
    }

    /// What `sum` gives for bytes in memory.
    func sum(of bytes: [UInt8]) throws -> String {
        let path = newPath("bytes")
        guard FileManager.default.createFile(atPath: path, contents: Data(bytes)) else {
            throw HarnessError("cannot write \(path)")
        }
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try sum(path)
    }
}

/// The first byte at which two equally long arrays differ, nil when they do not (memcmp(3), which is quick in any build).
func firstDifference(_ left: [UInt8], _ right: [UInt8]) -> Int? {
    if left.count != right.count { return min(left.count, right.count) }
    if left.withUnsafeBytes({ a in right.withUnsafeBytes { b in memcmp(a.baseAddress!, b.baseAddress!, a.count) } })
        == 0
    {
        return nil
    }
    return left.indices.first { left[$0] != right[$0] }
}
