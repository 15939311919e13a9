"""CLAIM 2024: Tejani and others, Radiology: Artificial Intelligence 6, 2024, e240300.

Numbers are those of the checklist, and words are ours: the checklist itself says what an item asks.
"""

from mri_hpc.results.reviewers import statements_on_data as data
from mri_hpc.results.reviewers import statements_on_model as model
from mri_hpc.results.reviewers import statements_on_results as found
from mri_hpc.results.reviewers.checklist import Checklist, Item, Section

CLAIM = Checklist(
    name="claim_2024",
    title="CLAIM 2024",
    source="Tejani and others, Radiology: Artificial Intelligence 2024;6(4):e240300",
    sections=(
        Section(
            "Title, abstract, introduction",
            Item("1", "Title names the kind of AI", (model.technique,), "your title"),
            Item("2", "Abstract", (data.study_goal, data.counts, found.headline), "your abstract"),
            Item(
                "3",
                "Background, intended use and role",
                (model.use,),
                "the clinical background, and the role that you intend",
            ),
            Item("4", "Aims and hypotheses", (data.study_goal,), "your hypotheses"),
        ),
        Section(
            "Methods: study design",
            Item(
                "5",
                "Prospective or retrospective",
                (data.design,),
                "whether images were collected for this study",
            ),
            Item("6", "Goal of the study", (data.study_goal, data.design)),
        ),
        Section(
            "Methods: data",
            Item(
                "7",
                "Where the data are from",
                (data.source, data.counts, data.acquisition),
                "hospitals, public data sets and their licences, dates",
            ),
            Item(
                "8",
                "Who and what was taken, or left out",
                (data.taken, data.unused),
                "criteria before images reached the store",
            ),
            Item(
                "9",
                "Preprocessing",
                (data.preprocessing,),
                "what was done to images before they reached the store",
            ),
            Item(
                "10",
                "Parts of the data that were chosen",
                (data.taken, data.unused),
                "who chose, and how they were trained",
            ),
            Item(
                "11", "De-identification", (data.deidentification,), "what was done before, and by which law"
            ),
            Item("12", "Missing data", (data.missing,), "why they are missing"),
            Item(
                "13",
                "How images were acquired",
                (data.acquisition,),
                "scanners, field strengths, sequences, contrast",
            ),
        ),
        Section(
            "Methods: reference standard",
            Item(
                "14",
                "How the reference standard was obtained",
                (data.reference,),
                "how the classes were found: histology, follow-up, reading",
            ),
            Item("15", "Why that reference standard", (), "your reasons"),
            Item("16", "Who annotated", (), "how many, and how qualified"),
            Item("17", "How test images were annotated", (), "tools and instructions"),
            Item("18", "Agreement among annotators", (), "its measure, and what became of disagreements"),
        ),
        Section(
            "Methods: partitions",
            Item(
                "19",
                "How data were dealt to partitions",
                (data.partition, data.class_counts, model.imbalance),
                "why these shares",
            ),
            Item("20", "Level on which partitions are apart", (data.disjointness,)),
        ),
        Section(
            "Methods: testing data",
            Item(
                "21",
                "Intended size of the test set",
                (data.test_counts,),
                "whether that size was planned, and how",
            ),
        ),
        Section(
            "Methods: model",
            Item("22", "The model in detail", (model.architecture,)),
            Item("23", "Software", (model.software,)),
            Item("24", "Weights at the start", (model.start,)),
        ),
        Section(
            "Methods: training",
            Item("25", "Training", (model.training, model.imbalance)),
            Item(
                "26",
                "How the final model was chosen",
                (model.selection,),
                "how many runs were compared, and on whom",
            ),
            Item("27", "Several models together", (model.ensembling, model.pooling)),
        ),
        Section(
            "Methods: evaluation",
            Item(
                "28",
                "Measures of performance",
                (found.measures, found.controls),
                "other published models to compare with",
            ),
            Item("29", "Uncertainty and significance", (found.uncertainty,)),
            Item("30", "Robustness", (found.groups, found.controls), "other tests of robustness"),
            Item("31", "Explanations", (found.explained,)),
            Item("32", "Testing on internal data", (found.headline, data.disjointness)),
            Item("33", "Testing on external data", (found.external,), "tests elsewhere, or why none"),
            Item("34", "Registration of a trial", (), "register and number, or that there is none"),
        ),
        Section(
            "Results",
            Item(
                "35",
                "Patients and images in and out",
                (data.counts, data.unused),
                "those left out before the store, and the flow diagram",
            ),
            Item(
                "36",
                "Who they are, in each partition",
                (data.class_counts, data.acquisition),
                "age, sex, stage and the like",
            ),
            Item("37", "Performance of the final model", (found.figures, found.groups)),
            Item(
                "38",
                "Diagnostic accuracy and its precision",
                (found.class_figures, found.decision, found.sets),
            ),
            Item("39", "What went wrong", (found.failures,), "wrong cases in their clinical context"),
        ),
        Section(
            "Discussion",
            Item("40", "Limitations", (found.notes, found.untested, found.cannot_answer), "your study's"),
            Item(
                "41", "What it means for practice", (model.use,), "what follows, and what stands in the way"
            ),
        ),
        Section(
            "Other information",
            Item("42", "Full protocol", (model.protocol,), "where it can be read"),
            Item(
                "43",
                "Software, model and data to be had",
                (model.identity, model.software),
                "where, and on which terms",
            ),
            Item("44", "Funding", (), "sources, and the role of funders"),
        ),
    ),
)
