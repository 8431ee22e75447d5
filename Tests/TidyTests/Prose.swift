import Foundation
import Testing

/// Links of Markdown files that lead nowhere: a file that is not there, or a heading that its file does not have.
/// - Parameter exists: whether the package has this path.
func linkFindings(_ files: [TextFile], exists: (String) -> Bool) -> [Finding] {
    let documents = Dictionary(uniqueKeysWithValues: files.map { ($0.path, $0) })
    var findings: [Finding] = []
    for file in files where file.path.hasSuffix(".md") {
        for (index, line) in proseLines(file).enumerated() {
            for match in line.matches(of: /\]\(([^)\s]+)\)/) {
                let link = String(match.1)
                if link.contains("://") || link.hasPrefix("mailto:") { continue }
                let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
                let target = parts[0].isEmpty ? file.path : resolve(parts[0], from: file.path)
                if target.isEmpty || target.hasPrefix("..") || !exists(target) {
                    findings.append(Finding(file, line: index + 1, "\(link): there is no \(target)"))
                } else if parts.count == 2, let document = documents[target], !anchors(document).contains(parts[1]) {
                    findings.append(Finding(file, line: index + 1, "\(link): \(target) has no such heading"))
                }
            }
        }
    }
    return findings
}

/// The lines outside fenced code; those inside are empty.
private func proseLines(_ file: TextFile) -> [Substring] {
    var isCode = false
    return file.lines.map { line in
        if line.drop(while: { $0 == " " }).hasPrefix("```") {
            isCode.toggle()
            return ""
        }
        return isCode ? "" : line
    }
}

/// The anchors of a document's headings, as common renderers make them: lower case, spaces to hyphens, marks dropped.
private func anchors(_ file: TextFile) -> Set<String> {
    Set(
        proseLines(file).filter { $0.hasPrefix("#") }.map { line in
            let title = line.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces).lowercased()
            return String(
                title.compactMap { $0 == " " ? "-" : $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" ? $0 : nil })
        })
}

private func resolve(_ link: String, from path: String) -> String {
    var parts = path.split(separator: "/").dropLast().map(String.init)
    for part in link.split(separator: "/") where part != "." {
        if part == "..", let last = parts.last, last != ".." { parts.removeLast() } else { parts.append(String(part)) }
    }
    return parts.joined(separator: "/")
}

/// Decisions are numbered from 0001 without a gap, and each opens with its number.
func decisionFindings(_ files: [TextFile]) -> [Finding] {
    let decisions = files.filter { $0.path.hasPrefix("docs/decisions/") }.sorted { $0.path < $1.path }
    var findings: [Finding] = []
    for (index, file) in decisions.enumerated() {
        let number = String(repeating: "0", count: max(0, 4 - String(index + 1).count)) + String(index + 1)
        let name = file.path.split(separator: "/").last.map(String.init) ?? ""
        if !name.hasPrefix(number + "-") || !name.hasSuffix(".md") {
            findings.append(Finding(file, line: 1, "expected \(number)-*.md here"))
        }
        if file.lines.first?.hasPrefix("# \(number). ") != true {
            findings.append(Finding(file, line: 1, "opens with `# \(number). ` and its title"))
        }
    }
    return findings
}

/// Paths that exist on one machine only.
func machinePathFindings(_ files: [TextFile]) -> [Finding] {
    // In parts, so that this file does not find itself.
    let roots = ["ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk", "tmp/" + "wt"]
    var findings: [Finding] = []
    for file in files {
        for (index, line) in file.lines.enumerated() {
            for root in roots where containsPath(line, "/" + root + "/") {
                findings.append(Finding(file, line: index + 1, "/\(root)/… is a path of one machine"))
            }
        }
    }
    return findings
}

/// Whether `path` begins a path in `line`; `a/work/b` is a relative one and does not count.
private func containsPath(_ line: Substring, _ path: String) -> Bool {
    guard let range = line.firstRange(of: path) else { return false }
    guard range.lowerBound > line.startIndex else { return true }
    let before = line[line.index(before: range.lowerBound)]
    return !before.isLetter && !before.isNumber && !"._-})/$".contains(before)
}

@Suite struct Prose {
    @Test func `every link in the documents leads somewhere`() {
        #expect(linkFindings(SourceTree.files, exists: SourceTree.exists).isEmpty)
    }

    @Test func `decisions are numbered without a gap`() {
        #expect(decisionFindings(SourceTree.files).isEmpty)
        #expect(SourceTree.files.contains { $0.path.hasPrefix("docs/decisions/0001-") })
    }

    @Test func `no path of one machine is written down`() {
        #expect(machinePathFindings(SourceTree.files).isEmpty)
    }

    @Test func `the documents that others rely on are there`() {
        for path in [
            "README.md", "CHANGELOG.md", "LICENSE", "docs/architecture.md", "docs/operations.md", "docs/testing.md",
            "docs/benchmarks.md", "tools/test", "tools/demo", "tools/read-layers", ".ci/run",
        ] {
            #expect(SourceTree.exists(path), "\(path) is missing")
        }
    }

    @Test(arguments: [
        ("[a](missing.md)", 1), ("[a](../../b.md)", 1), ("[a](b.md#none)", 1), ("[a](#none)", 1),
        ("[a](b.md)", 0), ("[a](b.md#one-two)", 0), ("[a](#here)\n# Here", 0), ("[a](https://x.org/y)", 0),
        ("```\n[a](missing.md)\n```", 0), ("[a](../README.md)", 0),
    ])
    func `a link that leads nowhere is found`(text: String, count: Int) {
        let files = [
            TextFile(path: "docs/a.md", text: text), TextFile(path: "docs/b.md", text: "# One, two\n"),
            TextFile(path: "README.md", text: ""),
        ]
        let findings = linkFindings(files) { path in files.contains { $0.path == path } }
        #expect(findings.count == count)
    }

    @Test func `a gap and a wrong title among the decisions are found`() {
        let good = TextFile(path: "docs/decisions/0001-a.md", text: "# 0001. A\n")
        #expect(decisionFindings([good]).isEmpty)
        #expect(decisionFindings([good, TextFile(path: "docs/decisions/0003-c.md", text: "# 0003. C\n")]).count == 2)
        #expect(decisionFindings([TextFile(path: "docs/decisions/0001-a.md", text: "# A\n")]).count == 1)
    }

    @Test func `a path of one machine is found`() {
        let bad = "see /ho" + "me/someone/x"
        #expect(machinePathFindings([TextFile(path: "README.md", text: bad)]).count == 1)
        #expect(machinePathFindings([TextFile(path: "README.md", text: "see sub/ho" + "me/x")]).isEmpty)
    }
}
