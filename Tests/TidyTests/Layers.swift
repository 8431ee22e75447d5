import Testing

/// Which module may import which: the arrows of docs/architecture.md, which go down only.
///
/// A module of the project that a row does not name may not be imported there; a target without a row is a finding, so
/// a new one finds its place here first. Modules of the system and of other packages have their own table below.
let layers: [String: Set<String>] = [
    "CLinux": [],
    "CXXHash": [],
    "CFuse3": [],
    "Primitives": ["CXXHash"],
    "Format": ["Primitives"],
    "HostIO": ["Primitives", "CLinux"],
    "Storage": ["Format", "HostIO", "Primitives"],
    "Replication": ["Storage", "Format", "HostIO", "Primitives"],
    "Control": ["HostIO", "Primitives"],
    "FuseFrontend": ["CFuse3", "Primitives"],
    "SimulatedHost": ["HostIO", "Primitives"],
    "replica-tool": [
        "FuseFrontend", "Control", "Replication", "Storage", "Format", "HostIO", "Primitives",
    ],
]

/// Modules from outside, and who may import them. `Format` decodes bytes of strangers, so it sees no system at all.
let outsideModules: [String: Set<String>] = [
    "Glibc": ["Primitives", "HostIO", "Control", "FuseFrontend", "SimulatedHost", "replica-tool"],
    "FoundationEssentials": ["Format", "Storage", "Control", "replica-tool"],
    "ArgumentParser": ["replica-tool"],
    "Logging": ["FuseFrontend", "replica-tool"],
    "Synchronization": ["Primitives", "SimulatedHost"],
]

/// The module that an import line names: `internal import struct Foundation.Date` imports `Foundation`.
func importedModule(_ line: Substring) -> String? {
    var words = line.split(separator: " ")[...]
    while let first = words.first, first != "import" {
        guard first.hasPrefix("@") || ["public", "package", "internal", "fileprivate", "private"].contains(first) else {
            return nil
        }
        words = words.dropFirst()
    }
    words = words.dropFirst()
    if let kind = words.first,
        ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"].contains(kind)
    {
        words = words.dropFirst()
    }
    return words.first.flatMap { $0.split(separator: ".").first }.map(String.init)
}

/// Imports in `Sources` that point up or sideways, or at a module that the row does not name.
func importFindings(_ files: [TextFile]) -> [Finding] {
    var findings: [Finding] = []
    for file in files where file.isSwift && file.path.hasPrefix("Sources/") {
        guard let module = file.module, let allowed = layers[module] else {
            findings.append(Finding(file, line: 1, "this target has no row in the table of layers"))
            continue
        }
        for (index, line) in codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard let imported = importedModule(line), imported != module else { continue }
            if layers[imported] != nil {
                if !allowed.contains(imported) {
                    findings.append(Finding(file, line: index + 1, "\(module) may not import \(imported)"))
                }
            } else if outsideModules[imported]?.contains(module) != true {
                findings.append(Finding(file, line: index + 1, "\(module) may not import \(imported) from outside"))
            }
        }
    }
    return findings
}

/// A round trip in the table itself, so that nobody "fixes" a finding by adding an arrow that points up.
func cycle(in table: [String: Set<String>]) -> [String]? {
    var done: Set<String> = []
    func visit(_ module: String, _ path: [String]) -> [String]? {
        if path.contains(module) { return path + [module] }
        if done.contains(module) { return nil }
        for next in (table[module] ?? []).sorted() {
            if let found = visit(next, path + [module]) { return found }
        }
        done.insert(module)
        return nil
    }
    for module in table.keys.sorted() {
        if let found = visit(module, []) { return found }
    }
    return nil
}

@Suite struct Layers {
    @Test func `imports go down only`() {
        #expect(importFindings(SourceTree.files).isEmpty)
    }

    @Test func `the table of layers has no round trip, and each C library has one importer`() {
        #expect(cycle(in: layers) == nil)
        for (library, owner) in [("CLinux", "HostIO"), ("CXXHash", "Primitives"), ("CFuse3", "FuseFrontend")] {
            #expect(layers.filter { $0.value.contains(library) }.map(\.key) == [owner])
        }
    }

    @Test func `every target of the manifest has a row and every row is a target`() throws {
        let manifest = try #require(SourceTree.files.first { $0.path == "Package.swift" })
        let folders = Set(SourceTree.files.filter { $0.path.hasPrefix("Sources/") }.compactMap(\.module))
        #expect(folders == Set(layers.keys))
        for name in layers.keys {
            #expect(manifest.text.contains("name: \"\(name)\""), "\(name) is not a target of Package.swift")
        }
    }

    @Test(arguments: [
        ("Sources/Format/A.swift", "public import Storage"),
        ("Sources/Format/A.swift", "internal import CLinux"),
        ("Sources/Format/A.swift", "import Glibc"),
        ("Sources/Storage/A.swift", "@testable import Replication"),
        ("Sources/Storage/A.swift", "import struct Foundation.Date"),
        ("Sources/FuseFrontend/A.swift", "internal import CXXHash"),
        ("Sources/Elsewhere/A.swift", "let a = 1"),
    ])
    func `an import that points up is found`(path: String, line: String) {
        #expect(importFindings([TextFile(path: path, text: "// why\n\(line)\n")]).count == 1)
    }

    @Test func `an allowed import, a comment and a string are not findings`() {
        let text = "public import Primitives\n// import Storage\nlet a = \"\"\"\nimport Storage\n\"\"\"\n"
        #expect(importFindings([TextFile(path: "Sources/Format/A.swift", text: text)]).isEmpty)
    }

    @Test func `a round trip is found`() {
        #expect(cycle(in: ["a": ["b"], "b": ["c"], "c": ["a"], "d": []]) == ["a", "b", "c", "a"])
    }
}
