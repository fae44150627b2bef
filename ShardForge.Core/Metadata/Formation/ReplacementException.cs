namespace ShardForge.Metadata.Formation;

/// <summary>An empty node was told that the cluster is formed and knows it with another data directory: it can only come in that one's place (R38). Never leaves the metadata.</summary>
internal sealed class ReplacementException(string message) : Exception(message);
