import Testing

/// Below `replica-tool` nobody asks the system for the time, a random number, the environment or a sleep; they come in
/// through `Host`, so that the simulated host can stand there.
let ambientWords = [
    "Date(", "Date.now", "ContinuousClock", "SuspendingClock", "DispatchTime", "clock_gettime(", "gettimeofday(",
    "time(nil",
    "random(in:", ".randomElement(", ".shuffled(", ".shuffle(", "SystemRandomNumberGenerator", "getrandom(",
    "arc4random",
    "getenv(", "ProcessInfo", "CommandLine.", "UUID()", "usleep(", "nanosleep(", "sleep(",
]

/// Where one of them is right, and why.
let ambientAllowed: [String: [String: String]] = [
    "Sources/Primitives/Guarded.swift": [
        "clock_gettime(":
            "pthread_cond_timedwait takes an absolute time; nothing but the length of a wait depends on it"
    ]
]

func ambientFindings(_ files: [TextFile]) -> [Finding] {
    let free: Set<String> = ["replica-tool", "HostIO"]
    var findings: [Finding] = []
    for file in files where file.isSwift && file.path.hasPrefix("Sources/") {
        if let module = file.module, free.contains(module) { continue }
        for (index, line) in codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            for word in ambientWords where containsWord(line, word) {
                if ambientAllowed[file.path]?[word] == nil {
                    findings.append(Finding(file, line: index + 1, "\(word) comes in through Host"))
                }
            }
        }
    }
    return findings
}

/// Whether `line` has `word` where no identifier runs into it from the left: `updateDate(` does not have `Date(`.
func containsWord(_ line: Substring, _ word: String) -> Bool {
    var rest = line
    while let range = rest.firstRange(of: word) {
        if word.hasPrefix(".") || range.lowerBound == line.startIndex { return true }
        let before = line[line.index(before: range.lowerBound)]
        if !before.isLetter && !before.isNumber && before != "_" { return true }
        rest = rest[range.upperBound...]
    }
    return false
}

/// Words of unfinished or weakened work anywhere, and of waiting without an event in tests.
func unfinishedFindings(_ files: [TextFile]) -> [Finding] {
    // Put together from parts, so that this file does not find itself.
    let everywhere = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "-O" + "unchecked", "XCT" + "est", "XCT" + "Skip"]
    let inTests = ["sle" + "ep(", "Task.sle" + "ep", ".dis" + "abled(", "withKnown" + "Issue"]
    var findings: [Finding] = []
    for file in files where !file.path.hasPrefix("docs/") {
        for (index, line) in file.lines.enumerated() {
            // mkdtemp(3) wants six of that letter.
            let line = line.replacing(String(repeating: "X", count: 6), with: "")[...]
            for word in everywhere where containsWord(line, word) {
                findings.append(Finding(file, line: index + 1, word))
            }
        }
        guard file.path.hasPrefix("Tests/"), file.isSwift else { continue }
        for (index, line) in codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            for word in inTests where line.contains(word) {
                findings.append(Finding(file, line: index + 1, "\(word) in a test: wait for an event"))
            }
        }
    }
    return findings
}

@Suite struct Ambient {
    @Test func `time, randomness and the environment come in through the host`() {
        #expect(ambientFindings(SourceTree.files).isEmpty)
    }

    @Test func `nothing unfinished is left and no test waits without an event`() {
        #expect(unfinishedFindings(SourceTree.files).isEmpty)
    }

    @Test func `what is allowed is still needed`() {
        for (path, words) in ambientAllowed {
            let file = SourceTree.files.first { $0.path == path }
            for word in words.keys {
                #expect(file.map { codeOnly($0.text).contains(word) } == true, "\(path) does not use \(word) any more")
            }
        }
    }

    @Test(arguments: [
        "let now = Date()", "let n = Int.random(in: 0..<4)", "if getenv(\"A\") != nil {}", "clock_gettime(1, &time)",
        "let e = ProcessInfo.processInfo", "a.shuffled()", "usleep(10)", "let c = ContinuousClock()",
    ])
    func `an ambient call is found`(line: String) {
        #expect(!ambientFindings([TextFile(path: "Sources/Storage/A.swift", text: line)]).isEmpty)
        #expect(ambientFindings([TextFile(path: "Sources/HostIO/A.swift", text: line)]).isEmpty)
    }

    @Test func `a name that only ends like one, a comment and a string are not findings`() {
        let text = "updateDate(1)\n// Date()\nlet a = \"getenv(x)\"\n"
        #expect(ambientFindings([TextFile(path: "Sources/Storage/A.swift", text: text)]).isEmpty)
    }

    @Test(arguments: [
        ("Sources/Storage/A.swift", "// TO" + "DO: later"),
        ("Package.swift", "unsafeFlags([\"-O" + "unchecked\"])"),
        ("Tests/StorageTests/A.swift", "usle" + "ep(5)"),
        ("Tests/StorageTests/A.swift", "import XCT" + "est"),
        ("Tests/StorageTests/A.swift", "@Test(.dis" + "abled()) func a() {}"),
    ])
    func `unfinished work and a wait without an event are found`(path: String, line: String) {
        #expect(unfinishedFindings([TextFile(path: path, text: line)]).count == 1)
    }
}
