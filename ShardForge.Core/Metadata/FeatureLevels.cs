namespace ShardForge.Metadata;

/// <summary>Feature levels of a cluster (R42): what every node of it knows. An entry, frame or behaviour that older builds do not know waits for its level.</summary>
internal static class FeatureLevels
{
    /// <summary>The first release: everything that this build writes.</summary>
    public const int First = 1;

    /// <summary>The highest one that this build knows.</summary>
    public const int Supported = First;
}
