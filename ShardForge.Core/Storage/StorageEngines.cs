namespace ShardForge.Storage;

/// <summary>The engines that come with the library.</summary>
public static partial class StorageEngines
{
}
