import Testing

/// The most lines of one file: beyond that it holds two nouns.
let lineLimit = 500

func lengthFindings(_ files: [TextFile]) -> [Finding] {
    files.filter { $0.path.hasPrefix("Sources/") && $0.lines.count - 1 > lineLimit }
        .map { Finding($0, line: lineLimit + 1, "\($0.lines.count - 1) lines, \(lineLimit) at most") }
}

/// Public types and functions without a doc comment.
///
/// A member that only fulfils what a protocol documents is exempt: those of the standard library and those that a
/// protocol of the project declares, by name.
func undocumentedFindings(_ files: [TextFile]) -> [Finding] {
    let kinds = ["struct", "class", "enum", "protocol", "actor", "func"]
    let inherited = Set(["<", "==", "hash", "encode", "makeIterator", "next"]).union(protocolFunctions(files))
    let modifiers: Set<Substring> = [
        "static", "final", "mutating", "nonmutating", "consuming", "borrowing", "nonisolated", "override", "indirect",
    ]
    var findings: [Finding] = []
    for file in files where file.isSwift && file.path.hasPrefix("Sources/") {
        let code = codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false)
        let lines = file.lines
        for (index, line) in code.enumerated() {
            var words = line.split { $0 == " " }[...]
            while let first = words.first, first.hasPrefix("@") { words = words.dropFirst() }
            guard words.first == "public" else { continue }
            words = words.dropFirst().drop { modifiers.contains($0) }
            guard let kind = words.first, kinds.contains(String(kind)) else { continue }
            words = words.dropFirst()
            let name =
                words.first.map { $0.prefix { $0 != "(" && $0 != ":" && ($0 != "<" || words.first == "<") } } ?? ""
            if kind == "func", inherited.contains(String(name)) { continue }
            // Attributes may stand between the comment and the declaration.
            var above = index - 1
            while above >= 0, lines[above].drop(while: { $0 == " " }).hasPrefix("@") { above -= 1 }
            let comment = above >= 0 ? lines[above].drop { $0 == " " } : ""
            if !comment.hasPrefix("///") {
                findings.append(Finding(file, line: index + 1, "public \(kind) \(name) has no doc comment"))
            }
        }
    }
    return findings
}

/// The names of the functions that the project's protocols declare.
private func protocolFunctions(_ files: [TextFile]) -> Set<String> {
    var names: Set<String> = []
    for file in files where file.isSwift && file.path.hasPrefix("Sources/") {
        var isInside = false
        for line in codeOnly(file.text).split(separator: "\n") {
            if line.firstRange(of: "protocol ") != nil, !line.hasPrefix(" ") { isInside = true }
            if line.hasPrefix("}") { isInside = false }
            let words = line.split(separator: " ")
            if isInside, let place = words.firstIndex(of: "func"), place + 1 < words.count {
                names.insert(String(words[place + 1].prefix { $0 != "(" && $0 != "<" }))
            }
        }
    }
    return names
}

@Suite struct Declarations {
    @Test func `no source file is longer than one noun needs`() {
        #expect(lengthFindings(SourceTree.files).isEmpty)
    }

    @Test func `public types and functions say what they promise`() {
        #expect(undocumentedFindings(SourceTree.files).isEmpty)
    }

    @Test func `a file that is too long is found`() {
        let text = String(repeating: "a\n", count: lineLimit)
        #expect(lengthFindings([TextFile(path: "Sources/Storage/A.swift", text: text)]).isEmpty)
        #expect(lengthFindings([TextFile(path: "Sources/Storage/A.swift", text: text + "a\n")]).count == 1)
    }

    @Test(arguments: [
        "public struct A {}", "@frozen public enum A {}", "    public static func a() {}", "public final class A {",
        "// Not a doc comment.\npublic func a() {}", "/// Of something else.\n\npublic protocol A {}",
    ])
    func `a public declaration without a doc comment is found`(text: String) {
        #expect(undocumentedFindings([TextFile(path: "Sources/Storage/A.swift", text: text)]).count == 1)
    }

    @Test(arguments: [
        "/// What it is.\npublic struct A {}", "/// It.\npublic protocol P {\n    func a()\n}\n    public func a() {}",
        "/// What it is.\n@inline(__always)\npublic func a() {}",
        "public static func < (left: A, right: A) -> Bool { true }", "struct A {}", "public var a = 1",
        "public func hash(into hasher: inout Hasher) {}", "let a = \"\"\"\npublic struct A {}\n\"\"\"",
    ])
    func `a documented, inherited or internal declaration is not a finding`(text: String) {
        #expect(undocumentedFindings([TextFile(path: "Sources/Storage/A.swift", text: text)]).isEmpty)
    }
}
