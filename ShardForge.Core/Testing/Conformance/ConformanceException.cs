namespace ShardForge.Testing;

/// <summary>An engine does not do what <see cref="Storage.IStorageEngine"/> promises.</summary>
public sealed class ConformanceException : Exception
{
    internal ConformanceException(string caseName, int seed, string difference, Exception? innerException = null)
        : base($"{caseName}, seed {seed}: {difference}", innerException)
    {
        CaseName = caseName;
        Seed = seed;
        Difference = difference;
    }

    /// <summary>Name of the case that failed.</summary>
    public string CaseName { get; }

    /// <summary>The seed it ran with: the same one gives the same operations again.</summary>
    public int Seed { get; }

    /// <summary>What was expected, and what the engine did.</summary>
    public string Difference { get; }
}
