// What Elasticsearch's own modules, which are not published, tell the server of the failure store: that this node has it (from the
// data-streams module), and the type of a field in its mapping (from mapper-extras; here plain text). All else is the server's.
import java.util.Map;
import java.util.Set;
import org.elasticsearch.cluster.metadata.DataStream;
import org.elasticsearch.features.FeatureSpecification;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.mapper.Mapper;
import org.elasticsearch.index.mapper.TextFieldMapper;
import org.elasticsearch.plugins.MapperPlugin;
import org.elasticsearch.plugins.Plugin;
public class FailureStore extends Plugin implements MapperPlugin {
  @Override public Map<String, Mapper.TypeParser> getMappers() { return Map.of("match_only_text", TextFieldMapper.PARSER); }
  public static class Features implements FeatureSpecification {
    @Override public Set<NodeFeature> getFeatures() { return Set.of(DataStream.DATA_STREAM_FAILURE_STORE_FEATURE); }
  }
}
