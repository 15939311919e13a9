"""TRIPOD+AI: Collins and others, BMJ 385, 2024, e078378.

Numbers are those of the checklist, and words are ours: the checklist itself says what an item asks.
"""

from mri_hpc.results.reviewers import statements_on_data as data
from mri_hpc.results.reviewers import statements_on_model as model
from mri_hpc.results.reviewers import statements_on_results as found
from mri_hpc.results.reviewers.checklist import Checklist, Item, Section

TRIPOD = Checklist(
    name="tripod_ai",
    title="TRIPOD+AI",
    source="Collins and others, BMJ 2024;385:e078378",
    sections=(
        Section(
            "Title and abstract",
            Item("1", "Title", (data.study_goal, model.technique), "your title, and the population"),
            Item(
                "2",
                "Abstract",
                (data.study_goal, data.counts, found.headline),
                "your abstract; it has a checklist of its own",
            ),
        ),
        Section(
            "Introduction",
            Item("3a", "Context and reasons", (), "the clinical question, and models that there are"),
            Item(
                "3b",
                "Population, purpose and users",
                (model.use,),
                "for whom, where in the pathway, and by whom",
            ),
            Item("3c", "Known inequalities in health", (), "between which groups"),
            Item("4", "Objectives", (data.study_goal, data.design)),
        ),
        Section(
            "Methods",
            Item(
                "5a",
                "Sources of data, for making and for testing",
                (data.source, data.counts),
                "where from, why these, and for whom they stand",
            ),
            Item("5b", "Dates", (), "when patients were examined"),
            Item("6a", "Setting and centres", (data.acquisition,), "kind, number and place of centres"),
            Item("6b", "Who could take part", (data.taken,), "criteria before images reached the store"),
            Item("6c", "Treatments", (), "which, and how they were dealt with"),
            Item(
                "7",
                "Preparation of data, and checks",
                (data.preprocessing, data.disjointness),
                "whether it was alike in all groups of people",
            ),
            Item("8a", "Outcome", (data.reference,), "how and when it was found, and why this one"),
            Item("8b", "Who judged the outcome", (), "their qualifications"),
            Item("8c", "Blinding to the outcome", (), "what was done"),
            Item("9a", "Choice of predictors", (model.technique, data.taken)),
            Item(
                "9b",
                "Definition of predictors",
                (data.preprocessing, data.acquisition),
                "how and when images were taken",
            ),
            Item("9c", "Who judged predictors", (data.predictors_by_machine,)),
            Item(
                "10",
                "Size of the study",
                (data.counts, data.test_counts),
                "how it was arrived at, and whether it suffices",
            ),
            Item("11", "Missing data", (data.missing, data.unused), "why they are missing"),
            Item("12a", "How data were used and divided", (data.partition, data.class_counts)),
            Item("12b", "How predictors were handled", (data.preprocessing,)),
            Item(
                "12c",
                "Model, how it was built, internal validation",
                (model.architecture, model.training, model.selection),
                "why this model, and how settings were found",
            ),
            Item("12d", "Differences between clusters", (found.groups,), "those unknown to the store"),
            Item("12e", "Measures of performance", (found.measures, found.uncertainty)),
            Item("12f", "Updating of the model", (found.updating,)),
            Item("12g", "How predictions were computed", (model.how_predicted, model.pooling)),
            Item("13", "Rare classes", (model.imbalance, found.probabilities)),
            Item("14", "Fairness", (), "what was done for it; a store knows neither age, sex nor origin"),
            Item(
                "15",
                "What the model gives",
                (model.technique, found.probabilities, found.decision, found.sets),
            ),
            Item(
                "16",
                "Differences between training and test data",
                (data.class_counts, found.external),
                "in setting, criteria and outcome",
            ),
            Item("17", "Ethics", (), "who approved, and who consented"),
        ),
        Section(
            "Open science",
            Item("18a", "Funding", (), "sources, and the role of funders"),
            Item("18b", "Conflicts of interest", (), "of all authors"),
            Item("18c", "Protocol", (model.protocol,), "where it can be read, or that there is none"),
            Item("18d", "Registration", (), "register and number, or that there is none"),
            Item("18e", "Sharing of data", (data.source,), "where, and on which terms"),
            Item("18f", "Sharing of code", (model.software,), "where, and on which terms"),
        ),
        Section(
            "Patients and the public",
            Item("19", "Involvement", (), "of whom and in what, or that there was none"),
        ),
        Section(
            "Results",
            Item(
                "20a",
                "Flow of patients",
                (data.class_counts, data.unused),
                "those left out before the store, and a diagram",
            ),
            Item("20b", "Who they are", (data.acquisition,), "age, sex, dates, treatments"),
            Item("20c", "Test data beside training data", (data.class_counts,), "traits but for the class"),
            Item("21", "Patients and outcomes in each analysis", (data.counts, data.class_counts)),
            Item(
                "22",
                "The model in full",
                (model.architecture, model.identity, model.how_predicted),
                "where it can be had, and on which terms",
            ),
            Item(
                "23a",
                "Performance with intervals",
                (found.figures, found.class_figures, found.groups),
                "groups of people that the store does not know",
            ),
            Item("23b", "Performance by cluster", (found.groups,), "clusters that the store does not know"),
            Item("24", "Results of updating", (found.updating,)),
        ),
        Section(
            "Discussion",
            Item(
                "25",
                "Interpretation",
                (found.headline, found.controls),
                "what it means, fairness, and beside other studies",
            ),
            Item("26", "Limitations", (found.notes, found.untested, found.cannot_answer), "your study's"),
            Item("27a", "Poor or absent input", (model.quality_of_input,), "what to do in your clinic"),
            Item("27b", "What users have to do and know", (model.how_predicted,), "in your clinic"),
            Item("27c", "Next steps", (found.external,), "your plans"),
        ),
    ),
)
