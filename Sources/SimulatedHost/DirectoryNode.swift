/// What a name leads to.
enum Entry: Sendable, Hashable {
    case file(Int)
    case directory(Int)
}

/// A change of a directory that no sync of it has made durable yet.
struct NameChange: Sendable {
    enum Kind: Sendable {
        case link(String, Entry)
        case unlink(String)
        case rename(String, to: String)
    }
    var sequence: UInt64
    var kind: Kind
}

/// A directory: the names that are durable, those that every reader sees, and the changes between the two in order.
struct DirectoryNode: Sendable {
    var current: [String: Entry] = [:]
    var durable: [String: Entry] = [:]
    var pending: [NameChange] = []

    mutating func change(_ kind: NameChange.Kind, sequence: UInt64) {
        Self.apply(kind, to: &current)
        pending.append(NameChange(sequence: sequence, kind: kind))
    }

    mutating func makeDurable() {
        durable = current
        pending = []
    }

    /// The names after a power cut. A change survives only if every earlier change of the same names did.
    func survivor(_ survival: inout Survival, directory: Int) -> [String: Entry] {
        var names = durable
        var lost: Set<String> = []
        for change in pending {
            // Files count up from 0, so directories take the numbers below.
            survival.begin(change.sequence, file: -1 - directory)
            let touched: [String]
            switch change.kind {
            case .link(let name, _), .unlink(let name): touched = [name]
            case .rename(let name, let other): touched = [name, other]
            }
            if survival.keepsUnit() && !touched.contains(where: lost.contains) {
                Self.apply(change.kind, to: &names)
            } else {
                lost.formUnion(touched)
            }
        }
        return names
    }

    private static func apply(_ kind: NameChange.Kind, to names: inout [String: Entry]) {
        switch kind {
        case .link(let name, let entry): names[name] = entry
        case .unlink(let name): names[name] = nil
        case .rename(let name, let other):
            guard name != other, let entry = names.removeValue(forKey: name) else { return }
            names[other] = entry
        }
    }
}
