/// The names in a replica directory.
public enum ReplicaFiles {
    public static let lock = "LOCK"
    public static let `super` = "super"
    public static let journal = "journal"
    public static let ballast = "ballast"
    public static let layers = "layers"
}
