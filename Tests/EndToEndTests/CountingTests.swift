import Foundation
import Testing

extension EndToEnd {
    /// The last line of tools/test: what it says of runs that went well, and of those that did not.
    @Suite struct Counting {
        private func test(_ id: String) -> String {
            #"{"kind":"test","payload":{"id":"\#(id)","kind":"function","name":"\#(id)()"},"version":0}"#
        }
        private func event(_ kind: String, _ id: String?, _ symbol: String = "default") -> String {
            let testID = id.map { #","testID":"\#($0)""# } ?? ""
            return
                #"{"kind":"event","payload":{"kind":"\#(kind)","messages":[{"symbol":"\#(symbol)","text":"why"}]\#(testID)},"version":0}"#
        }

        private func count(_ events: [String], code: String, _ flags: [String] = []) throws -> (
            lines: [Substring], code: Int32
        ) {
            try Scratch.use { scratch in
                try events.joined(separator: "\n").write(
                    toFile: scratch("run.jsonl"), atomically: false, encoding: .utf8)
                try code.write(toFile: scratch("run.exit"), atomically: false, encoding: .utf8)
                let result = try Running(
                    ["python3", packageRoot + "/tools/count-tests"] + flags + [scratch("run.jsonl")], in: scratch
                )
                .wait()
                return (result.output.split(separator: "\n"), result.code)
            }
        }

        private var passing: [String] {
            [test("a"), test("b"), event("testStarted", "a"), event("testEnded", "a", "pass")]
        }

        @Test func `passed, failed and not run are told apart`() throws {
            let good = try count(
                passing + [event("testSkipped", "b", "skip"), event("runEnded", nil, "pass")], code: "0")
            #expect(good.lines == ["not run: run: why", "1 passed, 0 failed"])
            #expect(good.code == 0)
            let bad = try count(
                passing + [event("testStarted", "b"), event("testEnded", "b", "fail"), event("runEnded", nil, "fail")],
                code: "1")
            #expect(bad.lines == ["failed: run: b()", "1 passed, 1 failed"])
            #expect(bad.code == 1)
        }

        @Test func `a crash in a test, before any test, and after the last one are failures`() throws {
            let inside = try count(passing + [event("testStarted", "b"), #"{"kind":"event","payl"#], code: "132")
            #expect(inside.lines.last == "1 passed, 1 failed")
            #expect(
                inside.lines.first?.hasSuffix("exit code 132; 0 tests had not begun, and 1 were running: b().") == true)
            #expect(inside.code == 1)
            #expect(try count([], code: "139").lines.last == "0 passed, 1 failed")
            let late = try count(passing + [event("runEnded", nil, "pass")], code: "139")
            #expect(late.lines.last == "1 passed, 1 failed")
            #expect(late.code == 1)
        }

        @Test func `an issue outside every test is a failure`() throws {
            let outside = try count(
                passing + [event("issueRecorded", nil, "fail"), event("runEnded", nil, "fail")], code: "1")
            #expect(outside.lines.last == "1 passed, 1 failed")
        }

        @Test func `a build that fails is a failure, and nothing passed is no success`() throws {
            let build = try count(passing + [event("runEnded", nil, "pass")], code: "0", ["--failed", "the build"])
            #expect(build.lines.last == "1 passed, 1 failed")
            #expect(build.code == 1)
            #expect(try count([event("runEnded", nil, "pass")], code: "0").code == 1)
        }
    }
}
